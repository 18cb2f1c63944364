"""Qwen's ChatML, whose default system message is `You are a helpful assistant.`

That is the default of Qwen1.5 and Qwen2. Qwen2.5 prepends "You are Qwen, created by Alibaba Cloud.", which a chatbot
with another name must not learn: give it as the system message where you want it. Qwen3 has no default; use `chatml`.
"""

from baihua.chat.templates import chatml

CONTROLS = chatml.CONTROLS

JINJA = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}"
    "{% endif %}" + chatml.JINJA
)
