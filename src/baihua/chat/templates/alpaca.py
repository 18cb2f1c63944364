"""Stanford Alpaca's headings, in the variant of alpaca-lora with a newline after `### Response:`.

A system message replaces the preamble. Later turns repeat the headings without it, which is our extension: Alpaca
has a single turn. Each answer ends with the model's end-of-sequence token.
"""

CONTROLS = ("<s>", "</s>")

JINJA = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}{{ message['content'] + '\\n\\n' }}"
    "{%- elif message['role'] == 'user' -%}"
    "{%- if loop.first and message['input'] -%}"
    "{{ 'Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\\n\\n' }}"
    "{%- elif loop.first -%}"
    "{{ 'Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\\n\\n' }}"
    "{%- endif -%}"
    "{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}"
    "{%- if message['input'] -%}{{ '### Input:\\n' + message['input'] + '\\n\\n' }}{%- endif -%}"
    "{%- if not loop.last or add_generation_prompt -%}{{ '### Response:\\n' }}{%- endif -%}"
    "{%- else -%}{{ message['content'] + eos_token }}"
    "{%- if not loop.last -%}{{ '\\n\\n' }}{%- endif -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
)
