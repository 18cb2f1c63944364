"""Chinese-LLaMA-Alpaca's form in training: one preamble for all, and `### Response: ` with one space at its end.

Its servers used three other forms; a model asked in those is asked otherwise than it was taught. There is no
slot for an input: it follows the instruction after one newline. A system message replaces the preamble, and
later turns repeat the headings without it (ours: the original has one turn).
"""

CONTROLS = ("<s>", "</s>")

JINJA = (
    "{%- for message in messages -%}"
    "{%- if loop.first and message['role'] != 'system' -%}"
    "{{ 'Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\\n\\n' }}"
    "{%- endif -%}"
    "{%- if message['role'] == 'system' -%}{{ message['content'] + '\\n\\n' }}"
    "{%- elif message['role'] == 'user' -%}{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}"
    "{%- else -%}{{ '### Response: ' + message['content'] + eos_token }}"
    "{%- if not loop.last -%}{{ '\\n\\n' }}{%- endif -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '### Response: ' }}{%- endif -%}"
)
