"""Qwen's ChatML: without a system message, `You are a helpful assistant.` is it.

That is the sentence of Qwen1.5 and Qwen2. Qwen2.5 puts "You are Qwen, created by Alibaba Cloud." before it, which
a chatbot of another name must not learn: give it as the system message where it is wanted. Qwen3 adds nothing,
which is our `chatml`.
"""

from baihua.chat.templates import chatml

CONTROLS = chatml.CONTROLS

JINJA = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}"
    "{% endif %}" + chatml.JINJA
)
