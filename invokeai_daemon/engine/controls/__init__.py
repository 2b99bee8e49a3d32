"""Controls: pictures that guide the denoiser beside the prompt: ControlNets, T2I-Adapters, IP-Adapters.

`attaching.attach` makes what a lane carries when it starts; `forward.controlled` is around each forward of the denoiser
and says what is injected into it. A ControlNet runs once for all rows of a forward. The other modules have a kind each:
`controlnets`, `t2i_adapters`, `image_prompts` (with `vision` and `blocks`); `pictures` brings control pictures to size.
"""
