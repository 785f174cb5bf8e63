//! From PyTorch to wgrad: what you know, and what it is called here. No code, only this page.
//!
//! # A training loop, side by side
//!
//! ```python
//! model = Net().to(device)
//! optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
//! for x, y in loader:
//!     model.train()
//!     loss = F.cross_entropy(model(x), y)
//!     optimizer.zero_grad()
//!     loss.backward()
//!     optimizer.step()
//!     print(loss.item())
//! ```
//!
//! ```
//! # use wgrad::prelude::*;
//! # use wgrad::data::{Array, Loader, TensorDataset};
//! # use wgrad::{nn::Linear, optim::AdamW};
//! # let device = Device::cpu();
//! # let (x, y) = (Array::new(&[0.0f32, 1.0, 2.0, 3.0], [2, 2])?, Array::new(&[0i32, 1], [2])?);
//! # let loader = Loader::new(TensorDataset::of_arrays(x, y)?, 2);
//! # let net = |params: &Params| Linear::new(&params.at("fc"), 2, 2);
//! let params = Params::new(&device, 42);
//! let model = net(&params);
//! let mut optimizer = AdamW::new(&params, 1e-3);
//! for batch in loader.epoch(&device) {
//!     let pass = Pass::train(&params);
//!     let loss = model.forward(&batch.x, &pass).cross_entropy(&batch.y);
//!     optimizer.step(loss.backward(&params))?;
//!     println!("{}", loss.item::<f32>()?);
//! }
//! # Ok::<(), wgrad::Error>(())
//! ```
//!
//! Four things are different, and nothing else much is:
//!
//! - **Nothing runs until it is read.** A formula builds a graph; `step`, [`Tensor::item`](crate::Tensor::item),
//!   [`Tensor::to_vec`](crate::Tensor::to_vec) and [`realize`](crate::realize) compile it once and run it.
//! - **Mistakes are values.** A wrong shape does not stop the program where it is written; reading
//!   the result gives an [`Error`](crate::Error) with the word, the shapes and your line.
//! - **Weights live in a store**, [`Params`](crate::Params), under the paths of a state dict; a
//!   module holds handles to them. Whether it trains or evaluates is an argument,
//!   [`Pass`](crate::Pass), not a state that someone may forget to set.
//! - **A gradient is a result**, not a field: there is no `zero_grad` and no `no_grad`.
//!
//! # Tensors
//!
//! | PyTorch | wgrad |
//! |---|---|
//! | `torch.tensor([[1., 2.]], device=d)` | `Tensor::new([[1.0, 2.0]], &d)` |
//! | `torch.from_numpy(a)` | `Tensor::from_vec(v, [2, 3], &d)`, [`io::load_npy`](crate::io::load_npy) |
//! | `torch.zeros(2, 3)`, `ones`, `full`, `arange`, `linspace`, `eye` | `Tensor::zeros([2, 3], &d)` and so on |
//! | `x.shape`, `x.ndim`, `x.numel()`, `x.dtype` | `x.dims()`, `x.rank()`, `x.numel()`, `x.dtype()` |
//! | `x.to(torch.float16)`, `x.to("cuda")` | `x.cast(DType::F16)`, `x.to_device(&d)` |
//! | `x.item()`, `x.tolist()` | `x.item::<f32>()?`, `x.to_vec::<f32>()?` |
//! | `x + y`, `x @ y`, `x ** 2`, `-x` | `&x + &y`, `x.matmul(&y)`, `x.pow(2.0)`, `-&x` |
//! | `x == y`, `x < y`, `a & b`, `~a` | `x.eq(&y)`, `x.lt(&y)`, `a.bitand(&b)`, `a.not()` |
//! | `torch.where(c, x, y)` | `c.where_(&x, &y)` |
//! | `x.view(-1, 4)`, `x.reshape(-1, 4)` | `x.reshape([-1, 4])` |
//! | `x.permute(0, 2, 1)`, `x.transpose(1, 2)` | `x.permute([0, 2, 1])`, `x.transpose(1, 2)` |
//! | `x.t()`, `x.mT` | `x.t()`, `x.transpose(-1, -2)` |
//! | `x[1:3, ::2]`, `x[:, 0]` | `x.slice((1..3, ..))` and [`slice_axis`](crate::Tensor::slice_axis) with a step, `x.narrow(1, 0, 1).squeeze(1)` |
//! | `x.sum()`, `x.mean(dim=(0, 1))`, `x.max(dim=1, keepdim=True).values` | `x.sum(..)`, `x.mean([0, 1])`, `x.max(keepdim(1))` |
//! | `torch.cat([x, y], dim=0)`, `stack`, `split`, `chunk` | `Tensor::cat(&[x, y], 0)`, `stack`, `split`, `chunk` |
//! | `torch.gather(x, 1, i)`, `x.scatter_add(0, i, y)` | `x.gather(1, &i)`, `x.scatter_add(0, &i, &y)` |
//! | `torch.einsum("bij,bjk->bik", x, y)` | `Tensor::einsum("bij,bjk->bik", &[&x, &y])` |
//! | `torch.manual_seed(0)`, `torch.randn(2, 3)` | `let key = Tensor::key(0, &d)`, `Tensor::normal([2, 3], &key)` |
//! | `F.softmax(x, dim=-1)`, `F.gelu(x)`, `F.layer_norm` | `x.softmax(-1)`, `x.gelu()`, `x.layer_norm(..)` |
//! | `F.scaled_dot_product_attention(q, k, v, is_causal=True)` | `q.scaled_dot_product_attention(&k, &v, AttentionOptions::default().causal())` |
//!
//! # Gradients
//!
//! | PyTorch | wgrad |
//! |---|---|
//! | `x.requires_grad_()` | `x.tracked()`; weights of a store are |
//! | `torch.autograd.grad(y, [x, w])` | `y.grad(&[&x, &w])`, again and again for higher ones |
//! | `torch.autograd.grad(y, x, grad_outputs=v)` | `y.vjp(&v, &[&x])` |
//! | `loss.backward()`, `w.grad` | `let grads = loss.backward(&params)`, `grads.get(&w)` |
//! | `x.detach()`, `torch.no_grad()` | `x.detach()`; what nobody differentiates keeps no history after it ran |
//! | `torch.utils.checkpoint.checkpoint(f, x)` | [`checkpoint`](crate::checkpoint)`(f, &[&x])` |
//! | its selective policies, `jax.checkpoint(policy=…)` | [`checkpoint_with`](crate::checkpoint_with)`(Recompute::Cheap, f, &[&x])` keeps what products gave |
//! | `torch.autograd.Function` | [`custom_gradient`](crate::custom_gradient) |
//!
//! # Modules and weights
//!
//! | PyTorch | wgrad |
//! |---|---|
//! | `nn.Linear(4, 2)` as a field | `Linear::new(&params.at("fc"), 4, 2)` |
//! | `def forward(self, x)` | `impl Module for Net { fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor }` |
//! | `nn.Parameter(torch.zeros(3))` | `params.weight("scale", [3], Init::Zeros)` |
//! | `register_buffer("mean", x)` | `params.buffer("mean", &x)` |
//! | `model.train()`, `model.eval()` | `Pass::train(&params)`, `Pass::eval()` |
//! | `nn.Sequential(a, b)` | `Sequential::new().then(a).then(b)` |
//! | `p.requires_grad_(False)` | `params.freeze("trunk.*")` |
//! | `head.weight = tok.weight` | `params.tie("head.weight", &tok.weight)` |
//! | `sum(p.numel() for p in model.parameters())`, `print(model)` | `params.count()`, `println!("{params}")` |
//! | `model.state_dict()`, `safetensors.torch.save_file` | `params.save("model.safetensors")?` |
//! | `model.load_state_dict(…)` | `params.load("model.safetensors")?`, or [`load_from`](crate::Params::load_from) with other names |
//!
//! # Training
//!
//! | PyTorch | wgrad |
//! |---|---|
//! | `optim.AdamW(model.parameters(), lr)` | `AdamW::new(&params, lr)` |
//! | parameter groups | `.group("*.bias", 1.0, 0.0)`: a pattern, a factor on the rate, a weight decay |
//! | `clip_grad_norm_(params, 1.0)` | `.clip_norm(1.0)` |
//! | `lr_scheduler.OneCycleLR` and others | `.schedule(Schedule::one_cycle(steps))`; no call after each step |
//! | `torch.autocast(dtype=torch.bfloat16)` | `Pass::train(&params).autocast(DType::BF16)`: see [`Pass::autocast`](crate::Pass::autocast); results stay `f32` tensors |
//! | `torch.amp.GradScaler` | `.loss_scale(LossScale::dynamic())` on the optimizer, or [`Trainer::autocast`](crate::train::Trainer::autocast) for both |
//! | `swa_utils.AveragedModel` | `.average(0.999)`, [`swap_average`](crate::optim::Optimizer::swap_average) |
//! | several `backward()` before a `step()` | [`Gradients::accumulate`](crate::Gradients::accumulate) |
//! | `DataLoader(ds, 64, shuffle=True, num_workers=2)` | `Loader::new(ds, 64).shuffle(seed).workers(2)`; the last batch is padded and masked |
//! | `F.cross_entropy(x, y, ignore_index=-100)` | `x.cross_entropy_with(&y, ClassOptions::default().ignore_index(-100))`; none is ignored unless asked |
//! | `torch.save({model, optimizer, epoch})` | [`train::Checkpoint`](crate::train::Checkpoint): also the loader's place and the random numbers |
//! | Lightning's or Keras's `fit` | [`train::Trainer`](crate::train::Trainer) |
//! | `torch.compile` | always; [`explain`](fn@crate::explain) shows the kernels |
