"""The joint generators, one module per paper, under one contract.

Construct: the settings of a preset (`catalogue.build(name)`), keyword `init_seed` included. Equal seeds and video
settings give equal video towers, whatever the audio side is.

Call: `model(x_v, x_a, t_v, t_a, cond, isolate=False) -> JointPrediction(video, audio)`. Latents batch first, times [B]
in 0 (clean) ... 1 (noise), `cond` a `Conditions`; predictions in the shapes of their latents. Video's is eps - x0
(`LinearPath`). Audio's is the target of `PATHS[model.audio_path]`.

* `x_a = t_a = None`: the T2V-only twin, same class, weights and code; it is the plain video tower to the bit.
* `isolate=True`: both towers run and neither sees the other; video is the twin's to the bit.
* `x_v = t_v = None`: audio alone, where the system makes it (BridgeDiT; VisioSonic and MMAudio always, from features of
  the video in `cond.look` and `cond.sync`).
* `t_v` and `t_a` may differ where a system was trained so (Harmony's driven tasks: the driver is clean, at time 0).

Attributes: `video` and (where there are two towers) `audio`, diffusers' transformers, so `from_pretrained` weights load
into them; every parameter whose name does not begin with `video.` belongs to the audio side. `audio_path`: "linear" or
"cosine". `audio_layout`: "tokens" for latents [B, L, C], "grid" for [B, C, T, M]. `one_prompt` (False where absent):
one caption serves both towers, in `cond.text_v`.

Losses are `training.objectives`, sampling is `common.sampling.sample`, random numbers are `common.streams`: all three
are the same for every system.
"""
