"""BELLE's form since its SFT code of 2023 (`Human: \\n`, `Assistant: \\n`), repeated turn by turn after each end token.

Models published before it were taught `Human: ...` on one line and need that form. There is no slot for an
input: it follows the question after one newline. BELLE has no system message; ours stands before the first
`Human:` with an empty line between.
"""

CONTROLS = ("<s>", "</s>")

JINJA = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}{{ message['content'] + '\\n\\n' }}"
    "{%- elif message['role'] == 'user' -%}{{ 'Human: \\n' + message['content'] + '\\n\\n' }}"
    "{%- else -%}{{ 'Assistant: \\n' + message['content'] + eos_token }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ 'Assistant: \\n' }}{%- endif -%}"
)
