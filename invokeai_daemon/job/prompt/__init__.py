"""The language of prompts: weights, blends and conjunctions of InvokeAI's and AUTOMATIC1111's prompts as one tree.

Called when jobs are planned and when their texts are encoded. Never imports torch.
"""
