"""Stanford Alpaca's own form (alpaca-lora's `alpaca_legacy`): nothing follows `### Response:`, not even a newline.

Everything else, later turns included, is as in `alpaca`.
"""

from baihua.chat.templates import alpaca

CONTROLS = alpaca.CONTROLS

JINJA = alpaca.JINJA.replace("### Response:\\n", "### Response:")
