"""What a call is refused with. Codes and messages follow EC2's own error reference."""


class Refusal(Exception):
    """An answer that is an error: EC2's code, its message and the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


def missing(name: str) -> Refusal:
    return Refusal("MissingParameter", f"The request must contain the parameter {name}")


def bad_value(message: str) -> Refusal:
    return Refusal("InvalidParameterValue", message)


def bad_combination(message: str) -> Refusal:
    return Refusal("InvalidParameterCombination", message)
