"""The texts of the lessons: one idea each, a guess, what to try, the formula in the code's symbols, the answer."""

import json
from dataclasses import dataclass
from typing import Any

from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.sampling.config import SamplerConfig

CAUSAL = "wind-causal"
"""The network of the lesson on causality."""
OPENS_ON = "wind"
"""The data set with which lessons on series open: the one that lesson 1 asks about."""


def live_query(checkpoint: str, config: SamplerConfig) -> dict[str, str]:
    """Return the address of the Live page with a cached setting; the policy's defaults are left out."""
    assert config.policy is not None
    values, plain = (json.loads(p.to_json()) for p in (config.policy, CachePolicy()))
    changes = {name: value for name, value in values.items() if value != plain[name]}
    return {
        "checkpoint": checkpoint,
        "steps": str(config.steps),
        "solver": config.solver,
        "grid": config.grid,
        "policy": json.dumps(changes, separators=(",", ":")),
    }


@dataclass(frozen=True)
class Turn:
    """Where a visitor goes on: a task, and the network and settings with which the Live page opens."""

    task: str
    checkpoint: str
    config: SamplerConfig

    @property
    def query(self) -> dict[str, str]:
        """The address of the Live page with these settings."""
        return live_query(self.checkpoint, self.config)


@dataclass(frozen=True)
class Text:
    """The texts of a lesson. `formula` is LaTeX; `letters` explains its symbols and where the code has them.

    `choices` answer the question, number `right` is the correct one.
    """

    key: str
    title: str
    idea: str
    attempt: str
    formula: str
    letters: str
    question: str
    choices: tuple[str, ...]
    right: int
    answer: str
    turn: Turn


def live(
    policy: CachePolicy | str, steps: int = 40, solver: str = "dpmpp_2m", grid: str = "profile"
) -> SamplerConfig:
    """Return settings of the Live page."""
    return SamplerConfig(PRESETS[policy] if isinstance(policy, str) else policy, steps, solver, grid)


def paper(tau: float, **changes: Any) -> SamplerConfig:
    """Return the published rule on the published kind of sampler, with fewer steps."""
    return live(CachePolicy.of("paper").replace(tau=tau, **changes), 200, "euler_maruyama", "linear")


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
        "How many of its frequencies hold 90% of the energy of wind speed?",
        ("About 7% of them", "About 25%", "About 50%", "Nearly all"),
        0,
        "Wind varies slowly. A heartbeat is sharp, and a sharp peak needs many frequencies in phase: 40% of "
        "its tokens hold 90% of the energy. Whether a policy that favors low bands pays is another question: "
        "household power is as spread out as heartbeats (48%), and gains from band-wise events. Measure it on "
        "your data.",
        Turn(
            "Move the cutoff **K** on wind, then on heartbeats: where does computing only low frequencies cost more?",
            "wind",
            paper(1.0, k_low=5),
        ),
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
        "A real series has N steps. How many of its N complex coefficients restore it exactly?",
        ("All N", "About half: N/2 + 1", "About a quarter", "It depends on the series"),
        1,
        "The others are their mirror images, whatever the series. Frequency 0 is its own mirror, "
        "so it must equal its own conjugate and has no imaginary part; the same holds at N/2 when N is even. "
        "The code masks these two coordinates (`spectral.coordinate_mask`); otherwise noise would leak into "
        "places where a real series has nothing.",
        Turn(
            "The decision map has a row for each frequency up to N/2: the mirror images need no work at all.",
            "ecg",
            live("balanced"),
        ),
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
        "On the way from noise to data, what rises above the noise first?",
        ("Low frequencies", "High frequencies", "All at the same time"),
        0,
        "They are strong. At the start a sampler could leave out nearly all frequencies: with "
        "a² vₖ far below s² the best estimate is the mean, whatever the network says. At the end, none may be "
        "left out, but all may be reused: the factor c_out, by which the network's part reaches the sample, "
        "goes to 0, however much its features still change. Leaving out and reusing are two ends of one idea.",
        Turn(
            "Choose **Watch one run**: see the band energies leave the noise, low ones first.",
            "wind",
            live("balanced"),
        ),
    ),
    Text(
        "change",
        "What a network call changes",
        "A cache pays only if what it keeps stays valid. Keep the **score**, and its noise is stale at once. "
        "Keep the denoised estimate **D**, and it misses everything new in the state. Most of D is "
        "known in closed form: recompute that part for free, and keep only the network's part **F**.",
        "Choose for how many steps **h** something is kept in the run below. All its curves use one unit: the error "
        "of D. Compare them early, in the middle and at the end.",
        r"D=c_{skip}\,z+c_{out}\,F(c_{in}z,t),\qquad \text{score}=\frac{a\,D-z}{s^2}",
        "`c_skip`, `c_out` and `c_in` follow from `v_k`, `a` and `s` (`score_model.precondition`). The run below is "
        "real: no cache, 200 steps.",
        "A sampler of wind calls the network at every fourth step and keeps one quantity in between. Which choice "
        "stays nearest to the uncached samples?",
        ("Keeping the score", "Keeping D", "Keeping F"),
        2,
        "The score holds the noise of the moment, and D misses the closed-form part, which goes on "
        "working only while F is kept. The closed form knows each frequency's variance, so it knows most where "
        "variances differ most: on wind F is far ahead of D; on heartbeats, whose energy is spread out, D does as "
        "well. With steps of equal length in t, F changes most at the end of a run, where steps are longest in "
        "log(a/s). It costs little there because c_out = s√v / √(a²v + s²) goes to 0 with s. What counts is "
        "c_out ΔF; the clock `profile` of a policy is measured from this curve.",
        Turn(
            "The preset `fast` keeps F of all frequencies for long. Drag τ until the error stays under 0.05.",
            "ecg",
            live("fast"),
        ),
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
        "With the weighting on, which frequencies of wind end farthest from the uncached run, relative to their own "
        "strength?",
        ("Low ones", "High ones", "All alike"),
        1,
        "They are weak: their score is drift times a small energy, so it stays below τ however stale "
        "they are. In units of the data this hardly shows; relative to each frequency's own strength it does, and "
        "fine detail is lost. Without the weighting, equal work leaves every band nearer here. A refresh every R "
        "steps, or probes, keep weak tokens from being forgotten for good, but change little at this cost.",
        Turn(
            "Switch **Energy weighting** off under *Expert fields*, and watch the error by band in both units.",
            "wind",
            paper(2.0),
        ),
    ),
    Text(
        "feedback",
        "Error feedback",
        "Every recompute shows how wrong the reused features had become, at no extra cost, because the work "
        "was needed anyway. Feedback uses this twice: to **correct** what is still reused, and to **adapt** τ "
        "until the error meets a budget.",
        "Compare each rule with and without feedback at equal cost. The intervals resample samples; all start "
        "from the same noise.",
        r"\rho_k=C_k^{fresh}-C_k,\qquad C_j\leftarrow C_j+\min(\alpha,\tfrac r2)\,\bar\rho_{band(j)},"
        r"\qquad \tau\leftarrow\tau\sqrt{b/\text{err}}",
        "`C` are the network's last features, `rho` is the residual, `alpha` the gain, `r` the event "
        "intensity, `b` the error budget (`caching/feedback.py`).",
        "Correcting reused features uses residuals that cost nothing. How much closer to the uncached run does "
        "it bring the samples?",
        ("About half the error is gone", "About a fifth is gone", "It changes next to nothing"),
        2,
        "The two points of each pair lie on each other. The gain is min(α, r/2), and r, the squared "
        "relative change of the features, is small whenever reuse is any good. A correction that is large "
        "enough to matter comes only when the cache has already failed. **Adapting** is a safety belt, not a "
        "gain: from very different τ it arrives at similar work, so a badly chosen τ does less harm; a τ "
        "chosen well is at least as good. Measure before you deploy: that is what the lab is for.",
        Turn(
            "Turn **Correct** on and off under *Expert fields*: does the dot move?",
            "household",
            live(CachePolicy(trigger="bands", bands=((16, 0.4), (100_000, 1.2)))),
        ),
    ),
    Text(
        "fewer",
        "Few calls: a cache becomes a solver",
        "A cache that refreshes all frequencies at once calls the network at a few steps and fills the steps between. "
        "It can **hold** F, or **continue** it along its last difference. A multistep solver does the same in its "
        "formula: it continues old outputs instead of calling the network again.",
        "Follow one family from few to many calls, and compare families at equal calls. The target is the converged "
        "solution on the same noise.",
        r"D_t\approx D_{i}+\frac{\lambda_t-\lambda_i}{\lambda_i-\lambda_{i-1}}\,(D_i-D_{i-1})\quad"
        r"\text{(2M)},\qquad F_t\approx F_{i}\quad\text{(cache)}",
        "`λ` is log(a/s) (`solvers.dpm_solver_pp_2m`, `solvers.etd_ab2`, `predictors.reused_output`).",
        "F is continued over a fine grid between 8 network calls. Which of these does the result resemble most?",
        (
            "The first-order solver DDIM with 8 calls",
            "A second-order solver with 8 calls",
            "A solver with many more calls",
        ),
        1,
        "F continued lies far below DDIM, with the multistep solvers. It "
        "is one of them in disguise: with F continued, the closed-form steps between two calls add up to a step of "
        "the exponential Adams-Bashforth solver `etd_ab2`. So a cache of all frequencies at once has no advantage "
        "that a solver lacks. What no solver has is the frequency axis: the last two lessons.",
        Turn(
            "The diamonds are solvers alone. Can you bring the dot below them with the preset `multistep`?",
            "stocks",
            live("multistep"),
        ),
    ),
    Text(
        "causality",
        "Stale keys: why causality helps",
        "To compute a few tokens, attention needs keys and values of all the others, and a cache lends old ones: they "
        "are **stale**. A spectrally **causal** network lets a token attend to its own and lower bands only. Its low "
        "tokens form a prefix that needs nothing from above, so nothing stale is ever read.",
        "Compare the networks as the upper tokens get older. Both were trained on wind with equal steps and seed.",
        r"\text{full: }C_k=f\big(z_k,\{K_j,V_j\}_{j\le n}\big),\qquad "
        r"\text{causal: }C_k=f\big(z_k,\{K_j,V_j\}_{j\le e(k)}\big)",
        "`e(k)` is the upper edge of the band of token `k` (`network/forward.py`). `e2crf train --bands` "
        "trains such a network; `e2crf localize` makes one of yours causal (docs/localization.md).",
        "Only the lowest 16 tokens are computed, those above were computed 8 steps ago. How wrong is F on the "
        "low tokens of the **causal** network, given the right state?",
        ("About as wrong as with full attention", "About half as wrong", "Not wrong at all"),
        2,
        "The prefix is computed exactly, to the rounding of floating-point numbers. With "
        "full attention the error grows with age. In a whole run the causal network is not free of error "
        "either: high tokens that wait leave a slightly wrong state, and the stem sees the whole state. But "
        "the low band, where the energy is, no longer pays for work that was left out above it.",
        Turn(
            "This network has full attention: at which τ do bands stop paying against refreshing everything?",
            "wind",
            live(CachePolicy(trigger="bands", bands=((16, 0.2), (100_000, 0.8)))),
        ),
    ),
    Text(
        "solver",
        "Cache or solver?",
        "A better solver needs fewer calls; each pays for **all** frequencies. A cache by band pays for those "
        "that change now: low frequencies often, high ones rarely. Which is better depends on data and "
        "network, and can be measured: the error to the converged solution on the same noise, at equal cost.",
        "Down and left is better. Compare the causal network with the one with full attention, where bands read "
        "stale keys.",
        r"\text{cost}=\frac1n\sum_i |S_i|,\qquad \text{error}=\operatorname{median}\frac{\|x-x^*\|}{\|x^*\|}",
        "`S_i` are the tokens computed at step `i`, `n` all tokens, so the cost of a solver alone is its number of "
        "calls; `x*` is the converged sample.",
        "About six network calls' worth of work, wind, causal network. What ends nearest to the converged samples?",
        ("A solver alone, with six calls", "A cache of all tokens at once", "A cache by band"),
        2,
        "On this network and data: wind keeps its energy in low frequencies, which are a "
        "cheap exact prefix here. Choose the network with full attention to see the gain shrink. Where spectra are "
        "spread out, as those of heartbeats, it shrinks too. If you need few samples fast and own no causal "
        "network, take the solver. If a stochastic sampler of many steps is certified and must not change, a "
        "cache keeps its path. The two also combine: the caches here run inside a solver of 40 cheap steps.",
        Turn(
            "Diamonds are solvers alone. Find a setting below them, then let **Tune** search for a better one.",
            "wind",
            live("multistep"),
        ),
    ),
)
