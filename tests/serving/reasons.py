"""A check of schemathesis: valid data is refused only for reasons that no schema can express."""

import schemathesis

REASONS = {
    "context_length_exceeded",
    "missing_field",  # a message without content that is not the assistant's
    "needs_logprobs",
    "prompt_or_messages",
    "too_many_answers",
    "unknown_token",  # of the model's vocabulary
    "unusable_input",  # such as a conversation that the template rejects
    "wrong_model",  # a classifier where a text is wanted, or the other way round
}


@schemathesis.check
def valid_data_is_refused_for_a_reason(ctx, response, case) -> None:
    """The code of a 400 is one of REASONS, unless the data is invalid by the schema."""
    if (
        response.status_code != 400
        or case.meta is None
        or not case.meta.generation.mode.is_positive
    ):
        return
    code = response.json()["error"]["code"]
    assert code in REASONS, f"valid data was refused: {response.text}"
