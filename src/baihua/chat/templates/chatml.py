"""ChatML, with control tokens around every message; used by SmolLM2, Qwen3 (without thinking) and many others.

A conversation without a system message gets none.
"""

CONTROLS = ("<|im_start|>", "<|im_end|>")

JINJA = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
