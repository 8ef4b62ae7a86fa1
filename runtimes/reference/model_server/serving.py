"""The protocol part, shared by all libraries: Open Inference Protocol v2 and v1, on the KServe SDK."""

import logging
import uuid
from typing import Any

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.errors import InvalidInput
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.utils.numpy_codec import from_np_dtype

from model_server.predictor import Predictor, RequestError, Tensor


class ServedModel(Model):
    """A loaded model under a name."""

    def __init__(self, name: str, predictor: Predictor) -> None:
        super().__init__(name)
        self._predictor = predictor
        self.ready = True

    def get_input_types(self) -> list[dict[str, Any]]:
        """The input signature of the model's metadata page."""
        return [_described(one) for one in self._predictor.inputs]

    def get_output_types(self) -> list[dict[str, Any]]:
        """The output signature."""
        return [_described(one) for one in self._predictor.outputs]

    def predict(
        self, payload: dict[str, Any] | InferRequest, headers: Any = None, response_headers: Any = None
    ) -> dict[str, Any] | InferResponse:
        """Answer one request in the protocol it came in."""
        try:
            if isinstance(payload, InferRequest):
                return self._answer_v2(payload)
            if not isinstance(payload, dict) or not isinstance(payload.get("instances"), list):
                raise RequestError('A v1 request must be JSON of the form {"instances": []}, sent as application/json.')
            return {"predictions": self._answer_v1(payload["instances"])}
        except RequestError as error:
            raise InvalidInput(str(error)) from error

    def _answer_v2(self, request: InferRequest) -> InferResponse:
        try:
            tensors = {tensor.name: tensor.as_numpy() for tensor in request.inputs}
        except ValueError as error:
            raise RequestError(f"An input does not have the data that its shape and datatype say: {error}.") from error
        found = self._predictor.predict(tensors)
        wanted = [output.name for output in request.request_outputs or ()] or list(found)
        unknown = [name for name in wanted if name not in found]
        if unknown:
            raise RequestError(f"The model has no output {', '.join(unknown)}; it has {', '.join(found)}.")
        outputs = []
        for name in wanted:
            output = InferOutput(name, list(found[name].shape), from_np_dtype(found[name].dtype))
            output.set_data_from_numpy(found[name], binary_data=bool(request.use_binary_outputs))
            outputs.append(output)
        return InferResponse(response_id=request.id or str(uuid.uuid4()), model_name=self.name, infer_outputs=outputs)

    def _answer_v1(self, instances: list[Any]) -> list[Any]:
        """A list with a prediction for each row; objects by output's name when there are several outputs."""
        found = self._predictor.predict(self._predictor.tensors_of_rows(instances))
        if len(found) == 1:
            values: list[Any] = next(iter(found.values())).tolist()
            return values
        columns = [np.atleast_1d(value).tolist() for value in found.values()]
        return [dict(zip(found, row, strict=True)) for row in zip(*columns, strict=True)]


class OneModel(ModelRepositoryExtension):
    """The SDK would let any client unload the model, over both protocols."""

    async def load(self, model_name: str) -> None:
        raise InvalidInput(f"{model_name} cannot be loaded: this server serves the one model that it was started with.")

    async def unload(self, model_name: str) -> None:
        raise InvalidInput(f"{model_name} cannot be unloaded: the server ends with its pod.")


def serve(name: str, predictor: Predictor, http_port: int, grpc_port: int) -> None:
    """Serve until SIGTERM: HTTP on one port, gRPC on the other, in one process."""
    server = ModelServer(http_port=http_port, grpc_port=grpc_port, workers=1, enable_latency_logging=False)
    server.model_repository_extension = OneModel(server.registered_models)
    for noisy in ("uvicorn.access", "kserve", "kserve.trace"):  # a line a request costs more than the prediction
        logging.getLogger(noisy).setLevel(logging.WARNING)
    server.start([ServedModel(name, predictor)])


def _described(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
