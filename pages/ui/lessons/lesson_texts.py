"""The texts of the lessons: one idea each, what to try, the formula in the code's symbols, a question."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """The texts of a lesson. `formula` is LaTeX; `letters` explains its symbols and where the code has them."""

    key: str
    title: str
    idea: str
    attempt: str
    formula: str
    letters: str
    question: str
    answer: str


TEXTS = (
    Text(
        "spectrum",
        "A series and its spectrum",
        "Every series is a sum of waves. Many kinds of series keep most of their energy in a few waves of low "
        "frequency. This is **spectral localization**, and it is why a network need not work equally hard on "
        "all frequencies.",
        "Drag the cutoff **K** in the spectrum. Watch the low-pass series lose detail and the captured energy "
        "fall. Tick **Listen**: the window becomes one period of a tone, and the cutoff removes its "
        "overtones.",
        r"X_k=\frac{1}{\sqrt N}\sum_{i=0}^{N-1}x_i\,e^{-2\pi\mathrm{i}\,ki/N},\qquad \sum_i x_i^2=\sum_k w_k\,|X_k|^2",
        "`x` is the series, `X_k` its coefficient at frequency `k`, `w_k` the number of coefficients that a "
        "token stands for (`spectral.mirror_weights`), `K` the cutoff (`CachePolicy.k_low`).",
        "A heartbeat is sharp. Is it as well localized as wind speed?",
        "No. A sharp peak needs many frequencies in phase, so the energy of heartbeats spreads out. Wind "
        "varies slowly and keeps its energy at low frequencies: 7% of its tokens hold 90% of it, 40% of a "
        "heartbeat's. Whether a policy that favors low bands pays is another question: household power is as "
        "spread out as heartbeats (48%), and gains from band-wise events. Measure it on your data.",
    ),
    Text(
        "mirror",
        "Mirror symmetry",
        "A real series of N steps has N coefficients, but those above N/2 are mirror images of those below. "
        "Half of them describe the series completely: half the tokens, half the work in every layer.",
        "Change one coefficient **without** its mirror: the series is no longer real, and the residue shows "
        "it. Then tick the mirror.",
        r"X_{N-k}=\overline{X_k}\quad\Longleftrightarrow\quad \operatorname{Im}x=0,\qquad n=\lfloor N/2\rfloor+1",
        "`n` is the number of tokens (`spectral.token_count`); the residue is `spectral.mirror_residue`.",
        "Why must the imaginary part of X₀ always be 0?",
        "Frequency 0 is its own mirror, so it must equal its own conjugate. The same holds at N/2 when N is "
        "even. The code masks these two coordinates (`spectral.coordinate_mask`); otherwise noise would leak "
        "into places where a real series has nothing.",
    ),
    Text(
        "noise",
        "Noise meets spectrum",
        "Noise is equally strong at all frequencies; data are not. On the way from noise to data, the strong "
        "low frequencies therefore emerge first and fine detail last. Sampling builds structure before "
        "detail.",
        "Drag **t** from 1 to 0 over the map and watch which frequencies rise above the noise line.",
        r"z_t=a\,z_0+s\,\varepsilon,\qquad \mathrm{SNR}_k=\frac{a^2v_k}{s^2},"
        r"\qquad a=e^{-\frac{t^2}{4}(\beta_1-\beta_0)-\frac t2\beta_0}",
        "`a` and `s` scale data and noise (`schedules.VP`), `v_k` is the variance of token `k` over the "
        "training set, and `log(a/s)` is the clock of the cache.",
        "Which frequencies could a sampler leave out at its start, and which at its end?",
        "At the start, nearly all: with a² vₖ far below s² the best estimate is the mean, whatever the "
        "network says. At the end, none may be left out, but all may be reused: the factor c_out, by which the "
        "network's part reaches the sample, goes to 0, however much its features still change. Leaving out and "
        "reusing are two ends of one idea.",
    ),
    Text(
        "change",
        "What a network call changes",
        "A cache pays only if what it keeps stays valid. Keep the **score**, and its noise is stale at once. "
        "Keep the denoised estimate **D**, and it misses everything new in the state. Most of D is "
        "known in closed form: recompute that part for free, and keep only the network's part **F**.",
        "Choose for how many steps **h** something is kept. All curves use one unit: the error of D. Compare "
        "them early, in the middle and at the end, and for another network.",
        r"D=c_{skip}\,z+c_{out}\,F(c_{in}z,t),\qquad \text{score}=\frac{a\,D-z}{s^2}",
        "`c_skip`, `c_out` and `c_in` follow from `v_k`, `a` and `s` (`score_model.precondition`). The run is "
        "real: no cache, 200 steps.",
        "With steps of equal length in t, F changes most at the end of the run. Why does holding it there cost so "
        "little?",
        "The last steps are the longest in log(a/s), so F moves far in each of them. It costs little because "
        "c_out = s√v / √(a²v + s²) goes to 0 with s. At the end D is nearly z itself, and an error of F hardly "
        "reaches it. What counts is c_out ΔF, the curve of F. It peaks where a sample takes its "
        "shape; the clock `profile` of a policy is measured from this curve.",
    ),
    Text(
        "events",
        "Events: thresholds, weights, probes",
        "The published trigger recomputes a token when its state has drifted away from where it was last "
        "computed, weighted by its energy. Below is a recorded run. Change the rule and see what it would "
        "have decided.",
        "Drag **τ**. Switch the energy weighting off. Add a cutoff **K**, probes, a refresh **R**. Click in "
        "the map to see the scores of one step.",
        r"d_k=|z_k-z_k^{last}|^2,\qquad e_k=d_k\,(\varepsilon+|z_k|^2)>\tau\;\Rightarrow\;k\in S",
        "`d_k`, `e_k` and `tau` are those of `caching/triggers.py`; `S` is the set of computed tokens "
        "(`e2crf.decide`); probes are `CachePolicy.probe_share`. The browser draws the probes; everything "
        "else is the recorded state.",
        "With the weighting on, which tokens starve, and does it matter?",
        "Weak ones: their score is drift times a small energy, so it stays below τ however stale they are. If "
        "their SNR is small as well, nothing is lost. Near the end, however, fine detail is weak and still "
        "matters. A refresh every R steps, or probes, keep such tokens from being forgotten.",
    ),
    Text(
        "feedback",
        "Error feedback",
        "Every recompute shows how wrong the reused features had become, at no extra cost, because the work "
        "was needed anyway. Feedback uses this twice: to **correct** what is still reused, and to **adapt** τ "
        "until the error meets a budget.",
        "Run it: the same noise without a cache, and with feedback off and on. The curves show how far the "
        "denoised estimate is from that of the run without a cache.",
        r"\rho_k=C_k^{fresh}-C_k,\qquad C_j\leftarrow C_j+\min(\alpha,\tfrac r2)\,\bar\rho_{band(j)},"
        r"\qquad \tau\leftarrow\tau\sqrt{b/\text{err}}",
        "`C` are the network's last features, `rho` is the residual, `alpha` the gain, `r` the event "
        "intensity, `b` the error budget (`caching/feedback.py`).",
        "Does feedback always help?",
        "No: read your own curves and table. Correcting the tokens that were not recomputed, by the mean residual of "
        "their band, is our variant; the published rule corrects probed tokens only. It helps if the residual of "
        "a band's recomputed tokens resembles that of the others. If tokens move independently, it does nothing "
        "or adds noise. "
        "Adaptation spends calls where the error of one step is large. But a small early error can send a "
        "sample down another path, so a run may meet its budget, compute more, and still end farther away. "
        "Measure before you deploy: that is what the lab is for.",
    ),
    Text(
        "fewer",
        "Cache, or fewer steps?",
        "A better solver needs fewer calls. A cache makes calls cheaper. Both rely on one property: the "
        "network's output is smooth in log(a/s). A multistep solver continues old outputs in its formula; a "
        "cache holds or continues them in place of the network.",
        "Run it: one sampler of many steps with larger and larger τ, and solvers with fewer and fewer steps. "
        "Cost is counted in full network calls, so both share one axis.",
        r"D_t\approx D_{i}+\frac{\lambda_t-\lambda_i}{\lambda_i-\lambda_{i-1}}\,(D_i-D_{i-1})\quad"
        r"\text{(2M)},\qquad F_t\approx F_{i}\quad\text{(cache)}",
        "`λ` is log(a/s) (`solvers.dpm_solver_pp_2m`, `predictors.reused_output`).",
        "If a solver with 20 calls is as good, why use a cache at all?",
        "Often you need not: on our data, DPM-Solver++ with 20 calls is as good as its converged self. And a cache "
        "that refreshes everything and predicts F between calls is no more than a solver itself, an exponential "
        "integrator such as `etd_ab2`. What no solver has is the frequency axis: it pays for all tokens at each "
        "call. A cache also keeps the sampler: its stochastic path, its many steps, its samples on "
        "the same noise. If an SDE with many steps beats every short solver, or if a sampler is certified and "
        "must not change, the cache buys its quality at the solver's price. Otherwise, take the solver. The "
        "two also combine: a cache inside a solver of many steps.",
    ),
)
