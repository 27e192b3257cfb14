"""The JSON schema of params.yaml, for editors and other tools: `imcl schema`.

The package itself checks with the pydantic models, whose messages are better.
"""

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from imcl.study.settings import Settings

DESCRIPTION = (
    "Generated from src/imcl/study; do not edit. To generate it again: imcl schema --write"
)


class _Generator(GenerateJsonSchema):
    """Leaves out what does not help a reader: titles, null, and defaults that are empty."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        return {key: part for key, part in super().model_schema(schema).items() if key != "title"}

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default") in (None, {}, []):
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """pydantic's own form, patternProperties, lets names pass that do not match."""
        made: JsonSchemaValue = {
            "type": "object",
            "propertyNames": self.generate_inner(schema["keys_schema"]),
            "additionalProperties": self.generate_inner(schema["values_schema"]),
        }
        self.update_with_validations(made, schema, self.ValidationsMapping.object)
        return made


def schema() -> dict[str, Any]:
    """The schema, draft 2020-12."""
    made = Settings.model_json_schema(schema_generator=_Generator)
    definitions = made.pop("$defs")
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "title": "params.yaml",
        **made,
        "description": DESCRIPTION,
        "$defs": definitions,
    }


def text() -> str:
    """The schema as it is committed."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(text(), end="")
