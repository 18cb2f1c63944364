"""What training puts in place of a layer of transformers or PEFT: attention, LoRA, and the loss of the output layer."""
