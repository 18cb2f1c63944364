"""Llama-2-chat's format: begin and end tokens around every turn, the system message inside the first.

As in Meta's code and the models' own template, an answer has a space on both sides; the model writes both, since the
prompt ends in `[/INST]`. Unlike them we never strip the texts. A conversation without a system message gets none; a
later system message opens the turn that follows it.
"""

CONTROLS = ("<s>", "</s>")

JINJA = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}"
    "{{ bos_token }}{{ '[INST] <<SYS>>\\n' + message['content'] + '\\n<</SYS>>\\n\\n' }}"
    "{%- elif message['role'] == 'user' -%}"
    "{%- if loop.first or loop.previtem['role'] != 'system' -%}{{ bos_token }}{{ '[INST] ' }}{%- endif -%}"
    "{{ message['content'] + ' [/INST]' }}"
    "{%- else -%}{{ ' ' + message['content'] + ' ' + eos_token }}"
    "{%- endif -%}"
    "{%- endfor -%}"
)
