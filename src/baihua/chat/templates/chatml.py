"""ChatML: role headers and ends are control tokens; used by SmolLM2, Qwen3 (its thinking off) and many others.

No system message is added where a conversation has none.
"""

CONTROLS = ("<|im_start|>", "<|im_end|>")

JINJA = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
