"""The API of Perennial: names and schemas. It imports nothing else of ours."""
