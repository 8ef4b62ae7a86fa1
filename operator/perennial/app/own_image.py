"""Which image the operator itself runs from: routers and steps run from the same one unless the settings name another.

The pod's spec is asked, not its status: its text is what registries, mirrors and pull secrets are set up for, while an
image ID names one platform and, for images loaded by hand, nothing that can be pulled. Must not use what it finds.
"""

import asyncio
import logging
from collections.abc import Mapping

from perennial.api.kinds import POD
from perennial.app.settings import SettingsError
from perennial.domain.conditions import bounded
from perennial.domain.errors import PerennialError, Stalled
from perennial.ports import ObjectStore

log = logging.getLogger(__name__)

CONTAINER = "operator"
RETRY_SECONDS = 2.0
_INSTEAD = "set `image` in the settings file"


async def own_image(store: ObjectStore, environ: Mapping[str, str]) -> str:
    """The image of the container `operator` of the pod $POD_NAMESPACE/$POD_NAME.

    Waits while the API server does not answer; SettingsError when there is no such pod or it may not be read.
    """
    namespace, name = environ.get("POD_NAMESPACE"), environ.get("POD_NAME")
    if not namespace or not name:
        raise _unknown(f"POD_NAME and POD_NAMESPACE are not both set, so it has no pod to take it from; {_INSTEAD}")
    while True:
        try:
            pod = await store.get(POD, namespace, name)
            break
        except Stalled as error:
            raise _unknown(f"its pod cannot be read: {error.message}; {_INSTEAD}") from None
        except PerennialError as error:
            log.warning("the operator's pod cannot be read yet: %s", error.message)
            await asyncio.sleep(RETRY_SECONDS)
    if pod is None:
        raise _unknown(f"there is no pod {name} in namespace {namespace}; {_INSTEAD}, or correct POD_NAME")
    images = {container["name"]: str(container["image"]) for container in pod["spec"]["containers"]}
    if CONTAINER not in images:
        found = ", ".join(sorted(images))
        raise _unknown(f"pod {name} has no container named {CONTAINER}, only {found}; {_INSTEAD}, or name it so")
    return images[CONTAINER]


def _unknown(why: str) -> SettingsError:
    return SettingsError(bounded(f"settings: image is not set and the operator's own is not known: {why}"))
