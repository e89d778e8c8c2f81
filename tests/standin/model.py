"""botocore's own description of the services: which operations there are, what goes in and what comes out."""

import botocore.loaders
import botocore.model

from .errors import Refusal


class Models:
    """The service models, each read once, the first time that it is asked for (EC2's at start)."""

    def __init__(self):
        self._loader = botocore.loaders.Loader()
        self._services = {}

    def service(self, name: str) -> botocore.model.ServiceModel:
        if name not in self._services:
            description = self._loader.load_service_model(name, "service-2")
            self._services[name] = botocore.model.ServiceModel(description, name)
        return self._services[name]

    def operation(self, service: str, action: str) -> botocore.model.OperationModel:
        try:
            return self.service(service).operation_model(action)
        except botocore.model.OperationNotFoundError:
            raise Refusal(
                "InvalidAction", f"The action {action} is not valid for this web service."
            ) from None
