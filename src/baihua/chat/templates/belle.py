"""BELLE's format since its SFT code of 2023 (`Human: \\n`, `Assistant: \\n`), repeated for every turn.

BELLE models from before it were trained with `Human: ...` on one line and need that format. There is no slot for
an input: it follows the question after one newline. BELLE has no system message; ours precedes the first `Human:`,
separated by an empty line.
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
