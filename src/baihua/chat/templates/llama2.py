"""Llama-2-chat's form: every turn from its begin token to its end token, the system message inside the first.

As in Meta's code and in the template that the models bring, a space stands on both sides of an answer; the
model writes both, since the prompt ends in `[/INST]`. Those also strip the texts, which we never do. No system
message is added where a conversation has none; a later one opens the turn that it stands before.
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
