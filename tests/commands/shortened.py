"""How this tier runs what the documents name: the same command, with smaller counts behind it, and real things in place
of its placeholders."""

from typing import NamedTuple


class Run(NamedTuple):
    """counts: flags that shorten the command; fill: (placeholder, what stands there), in the order in which they are
    replaced, where {a thing} is made by the tests; slow: takes more than a few seconds; traced: another command whose
    steps are the same but for their sizes: the compiler sees them there, and not once more here."""

    counts: str = ""
    fill: tuple[tuple[str, str], ...] = ()
    slow: bool = False
    traced: str = ""


# What a flag of `counts` may be called: numbers of things, and their sizes; nothing that takes another path
COUNTS = {
    "augmentations", "baselines", "batch", "block", "canvas", "climbs", "cores", "costs", "curriculum", "cycles", "d",
    "depth", "depths", "dt", "dts", "duration", "during", "ensembles", "epoch", "epochs", "evaluate", "every",
    "features", "free", "gammas", "H_layers", "halt_max_steps", "heads", "held_out", "hidden_layers", "hop",
    "integrators", "L_layers", "larger", "layers", "learned", "lengths", "looks", "most", "multiple", "networks",
    "omega", "omega_tau", "points", "population", "probes", "products", "puzzles", "radii", "ratio_points", "ratios",
    "reasoning", "repeats", "rows", "samples", "scaling", "seeds", "segments", "sizes",
    "settle", "settled", "splits", "steps", "stretch", "stretches", "tests", "threads", "timing", "trained", "turns",
    "variants", "warm_up", "watched", "width", "window",
}  # fmt: skip

ROW = "--samples 30 --training.epochs 1 --training.batch 20"  # one batch
SHALLOW = f"{ROW} --model.hidden_layers 1"
LAYERS = "--model.hidden_layers 2"  # one below another, as in six: each more takes the compiler as long again
STAGES = f"{ROW} --consolidation.epochs 1 --consolidation.batch 20"
STEPS = "--seeds 1 --training.steps 2 --evaluate 1 --training.halting.halt_max_steps 2"
PUZZLES = f"{STEPS} --training.batch 8 --puzzles [16,8,8] --model.H_layers 1 --model.L_layers 1"
LITTLE = "--training.batch 4 --model.d 32 --model.heads 2 --model.H_layers 1 --model.L_layers 1 --model.multiple 32"
NINE = f"{STEPS} {LITTLE} --puzzles [4,2,2]"
TASKS = f"{STEPS} {LITTLE} --canvas 8 --augmentations 2 --held_out 1"
FORECAST = "--networks 2 --epochs 1 --evaluate 1 --learned 0.7 --free 0.05"
SERIES = f"{FORECAST} --stretches 3"
# what no variant of the command changes is measured by the plain one alone
VARIANT = f"{SERIES} --hidden_layers 1 --integrators false --baselines [linear]"
COMPARE = (
    "--rows ['gle','one-step'] --seeds 1 --steps 2 --looks 1 --batch 8 --d 8 --layers 1 --puzzles [16,8,8] "
    "--probes 2 --settled [1,2] --lengths [2]"
)
SPEED = "--ensembles [2] --turns 1 --steps 12 --block 1"
LOOKED_AT = "--steps 2 --splits [8,4,4] --puzzles 4 --segments 2 --most 4 --larger 2 --depth 1 --watched 1"
COMPARED = "--steps 2 --splits [8,4,4] --puzzles 2 --cycles [[1,1]] --costs [[1,1]] --products 5 --batch 4"
FASTEST = "--turns 1 --batch 1 --layers 1 --settled [0.01] --sizes [laptop]"
CHAIN = "--seeds 2 --duration 8 --warm_up 4 --batch 2 --dt 0.1"
SMALL = "--seeds 2 --duration 30 --warm_up 5 --during 12 --window 10 --dt 0.1"

GLE_15K, TUNED = (
    f"python -m bench.mnist1d --config configs/mnist1d/{name}.yaml" for name in ("gle_15k", "gle_15k_tuned")
)
GLE_4X4 = "python -m bench.sudoku --config configs/sudoku/4x4_gle.yaml"
MNIST1D, SUDOKU, MACKEY = "python -m bench.mnist1d", "python -m bench.sudoku", "python -m bench.mackey_glass"
HARD_MAZES = "python -m bench.maze --config configs/maze/hard_30x30.yaml --folder mazes"
ARC, DYNAMICS = "python -m bench.arc", "python -m bench.hrm_dynamics"
SIX = f"{SUDOKU} --config configs/sudoku/6x6.yaml"
PAPER, RK4 = (f"{MACKEY} --config configs/mackey_glass/{name}.yaml" for name in ("paper", "rk4"))
FOLDERS = (("ARC-AGI/data/training", "{training tasks}"), ("ARC-AGI/data/evaluation", "{evaluation tasks}"))
ELLIPSES = (("…", "{training tasks}"), ("…", "{evaluation tasks}"))
WORDS = f"{MACKEY} --target value --stretches 1 --noise 0 --integrator rk4"
FILE = f"{MACKEY} --file mg_17.npy --neurobench true"
ANNEALED = "python -m bench.teacher_student chain --noise 0.1 --beta2 0.99 --halving 4000 --duration 32000"
INSTANT = "python -m bench.teacher_student small --propagation instant"
HELP, SMOKE = f"{SUDOKU} --help", "python -m bench.receptive_fields --smoke true"
RESUMED = f"{SUDOKU} --resume <folder>"
CSV = f"{SUDOKU} --size 9 --train_csv train.csv --test_csv test.csv --puzzles [1000,500,1000]"
UNVERIFIED = f"{CSV} --verify false"
LISTS, LISTS_MLP, LISTS_ATTENTION = (
    f"{SUDOKU} --config configs/sudoku/9x9_lists{mixer}.yaml --train_csv [a.txt,b.txt] --test_csv [a.txt,c.txt]"
    for mixer in ("", "_mlp", "_attention")
)
LISTED = (("a.txt", "{a list}"), ("b.txt", "{puzzles}"), ("a.txt", "{a list}"), ("c.txt", "{other puzzles}"))
FILES = (("train.csv", "{puzzles}"), ("test.csv", "{other puzzles}"))
OWN_MAZES = "python -m bench.maze --folder mazes --puzzles [900,100,1000]"
AS_STORED = f"{OWN_MAZES} --augmentation false"
COMPETITION = f"{ARC} --training_folder … --evaluation_folder …/arc-agi_test_challenges.json"
LONGER = f"{SUDOKU} --solve <puzzle> --weights <file> --segments 16"
SOLVED = (("<puzzle>", "'1... ..2. .3.. ...4'"), ("<file>", "{a run of Sudoku}/weights/0-last.pt"))

SPOKEN = "--training.epochs 1 --training.batch 50 --augmentation.variants 1"  # two batches
HEARD = "--training.epochs 1 --augmentation.variants 1 --features.hop 1000"
BOTH = f"{SPOKEN} --consolidation.epochs 1 --consolidation.batch 50 --features.hop 1000"
FOLDER = (("speech_commands", "{words}"),)
SPEECH = "python -m bench.gsc --data speech_commands --config configs/gsc/gle_52k.yaml --seeds 3"

GRID = 'python -m bench.sweep <benchmark> --grid "<option>=[<value>,…]"'
ON_RAY = "python -m bench.sweep mnist1d --config gru --grid grid.yaml --on ray --address auto"
EXAMPLE = (
    "python -m bench.sweep mnist1d --config gru --samples 1000 --training.epochs 10 --seeds 3 "
    '--grid "training.lr=[1e-3,3e-3,1e-2,3e-2]" --grid "training.batch=[50,100]"'
)

RUNS = {
    GRID: Run(ROW, (("<benchmark>", "mnist1d --config mlp"), ("<option>=[<value>,…]", "training.lr=[1e-3,1e-2]"))),
    ON_RAY: Run(ROW, (("grid.yaml", "{a grid}"), (" --on ray --address auto", "")), slow=True),
    EXAMPLE: Run("--samples 130 --training.epochs 1 --seeds 1", slow=True),
    "python -m bench.sweep --resume runs/sweep/<folder>": Run(fill=(("runs/sweep/<folder>", "{a sweep}"),)),
    "python -m bench.gsc --data speech_commands": Run(HEARD, FOLDER, slow=True, traced=SPEECH),
    "python -m bench.gsc --data speech_commands --download 0.02": Run(
        HEARD, ((" --download 0.02", ""), *FOLDER), slow=True, traced=SPEECH
    ),  # the same
    SPEECH: Run(BOTH, FOLDER, slow=True),
    "python -m bench.gsc --config configs/gsc/gle_52k.yaml --smoke true": Run(),
    "python -m bench.gsc --listen recording.wav --weights runs/gsc/<folder>/network.pt": Run(
        fill=(("recording.wav", "{a recording}"), ("runs/gsc/<folder>", "{a run of speech}"))
    ),
    **{
        f"python -m bench.gsc --config configs/gsc/{name}.yaml": Run(BOTH, slow=True, traced=SPEECH)
        for name in ("gle_136k", "gle_delays")
    },
    "python -m bench.gsc --config configs/gsc/gle_published.yaml": Run(
        f"{SPOKEN} {LAYERS} --features.hop 4000", slow=True
    ),
    **{
        f"python -m bench.gsc --config configs/gsc/{kind}{size}.yaml": Run(SPOKEN)
        for kind in ("mlp", "tcn", "gru", "lstm")
        for size in ("", "_published")
    },
    "python -m bench.frequency_response": Run(
        "--omega [5,10] --points 2 --dt 0.1 --ratio_points 1 --dts [0.1] --settle 8", slow=True
    ),
    "python -m bench.receptive_fields": Run("--layers 2 --features 2 --window 12 --steps 300 --batch 20"),
    "python -m bench.gradient_map": Run(
        "--omega_tau [1] --ratios [1,5] --depths [1,2] --gammas [0,1] --dts [0.1] --dt 0.1 --depth 2 --width 3 "
        "--batch 2 --seeds 2 --duration 2"
    ),
    "python -m bench.recurrent": Run(
        "--omega_tau [1] --radii [0.3,0.9] --ratios [2] --width 3 --batch 2 --seeds 2 --duration 2 --points 3 "
        "--steps 40"
    ),
    "python -m bench.credit": Run(
        "--epochs 1 --seeds 1 --hidden_layers 1 --population 2 --batch 10 --samples 20 --probes 1 --sizes [2] "
        "--lengths [2] --repeats 1 --stretch 180",
        slow=True,
    ),
    "python -m bench.teacher_student chain": Run(CHAIN, slow=True),
    "python -m bench.teacher_student small": Run(SMALL, slow=True),
    ANNEALED: Run(CHAIN, slow=True),
    INSTANT: Run(SMALL, slow=True),
    SMOKE: Run(),
    "python -m bench.error_timing": Run("--seeds 1 --epochs [1] --samples 20 --hidden_layers 2", slow=True),
    "python -m bench.error_timing --trained 10": Run(
        "--seeds 1 --epochs [0] --samples 20 --hidden_layers 2 --trained 1 --most 1",
        slow=True,
        traced="python -m bench.error_timing",
    ),
    MNIST1D: Run("--samples 130 --training.epochs 1", slow=True, traced=GLE_15K),
    GLE_15K: Run(f"{ROW} {LAYERS}"),
    f"{GLE_15K} --seeds 10 --workers 2": Run(  # workers: tests/bench/test_mnist1d.py
        f"{SHALLOW} --seeds 2", ((" --workers 2", ""),), slow=True, traced=GLE_15K
    ),
    f"{MNIST1D} --config configs/mnist1d/<row>.yaml --seeds <n>": Run(ROW, (("<row>", "mlp"), ("<n>", "2"))),
    f"{MNIST1D} --resume runs/mnist1d/<folder>": Run(fill=(("runs/mnist1d/<folder>", "{a run of MNIST-1D}"),)),
    **{f"{MNIST1D} --config configs/mnist1d/{name}.yaml": Run(ROW) for name in ("mlp", "tcn", "gru", "lagnet")},
    f"{MNIST1D} --config configs/mnist1d/gle_42k.yaml": Run(ROW, slow=True, traced=GLE_15K),
    TUNED: Run(STAGES, slow=True),
    f"{MNIST1D} --config configs/mnist1d/gle_42k_tuned.yaml": Run(STAGES, slow=True, traced=TUNED),
    f"{MNIST1D} --config gru": Run(ROW),
    "python -m bench.report bench/results/mnist1d": Run(fill=(("bench/results/mnist1d", "{a copy of the results}"),)),
    "python -m bench.speed": Run(f"{SPEED} --cores [1] --sizes [15k]", slow=True),
    "python -m bench.speed --quick true": Run("--steps 12"),
    "python -m bench.speed --turns 5": Run(
        "--ensembles [1] --turns 1 --steps 12 --block 1 --cores [1] --sizes [15k]", traced="python -m bench.speed"
    ),
    "python -m bench.speed --every '[1]' --modes '[compiled]' --cores '[1,2]'": Run(
        "--ensembles [1] --turns 1 --steps 12 --block 1 --sizes [15k]", slow=True
    ),
    "python -m bench.device --device cuda": Run(
        "--tests 0 --timing 20 --sizes [15k] --ensembles [1] --every [1] --turns 1 --steps 12 --block 1 --epoch 0 "
        "--seeds 1 --samples 500 --reasoning 0 --d 16 --layers 1 --batch 8",
        (("--device cuda", "--device cpu"),),
        slow=True,
    ),
    MACKEY: Run(f"{SERIES} --dts [0.8,0.4]", slow=True),
    PAPER: Run(
        f"{SERIES} --hidden_layers 1 --integrators false --scaling [1] --baselines [linear,LSTM]",
        slow=True,
        traced=MACKEY,
    ),
    RK4: Run(VARIANT, slow=True, traced=MACKEY),
    WORDS: Run(f"{FORECAST} --hidden_layers 1 --integrators false --baselines []", slow=True, traced=MACKEY),
    FILE: Run(VARIANT, (("mg_17.npy", "{a series}"),), slow=True, traced=MACKEY),
    SUDOKU: Run(PUZZLES),
    SIX: Run(PUZZLES),
    f"{SUDOKU} --config configs/sudoku/9x9_paper.yaml": Run(f"{NINE} --climbs 1"),
    CSV: Run(NINE, FILES, traced=SUDOKU),
    f"{CSV} --augmentation all": Run(NINE, FILES, traced=SUDOKU),
    UNVERIFIED: Run(NINE, FILES, traced=SUDOKU),
    LISTS: Run(NINE, LISTED),
    LISTS_MLP: Run(NINE, LISTED, traced=SUDOKU),
    LISTS_ATTENTION: Run(NINE, LISTED, traced=SUDOKU),
    GLE_4X4: Run(PUZZLES),
    f"{SUDOKU} --config configs/sudoku/6x6_gle.yaml": Run(PUZZLES, traced=GLE_4X4),
    f"{SUDOKU} --config configs/sudoku/6x6_gle_hard.yaml": Run(PUZZLES, traced=GLE_4X4),
    "python -m bench.maze --config configs/maze/10x10_gle.yaml": Run(PUZZLES),
    HARD_MAZES: Run(f"{PUZZLES} --curriculum [[4,2]]", (("mazes", "{mazes}"),), traced="python -m bench.maze"),
    f"{HARD_MAZES} --curriculum [] --views 1 --seeds 1": Run(
        PUZZLES, (("mazes", "{mazes}"),), traced="python -m bench.maze"
    ),
    "python -m bench.maze --config configs/maze/hard_30x30_gle.yaml --folder mazes": Run(
        f"{PUZZLES} --curriculum [[4,2]]", (("mazes", "{mazes}"),), traced="python -m bench.maze"
    ),
    "python -m bench.compare": Run(COMPARE),
    "python -m bench.compare --task 6x6 --cpu 2": Run(COMPARE),
    "python -m bench.compare --task maze --batch 32 --cpu 5": Run(COMPARE),
    "python -m bench.compare --task stream": Run(COMPARE),
    f"{SUDOKU} --size 9 --train_csv hard.txt --test_csv hard.txt --puzzles [400,50,50] --augmentation all": Run(
        NINE, (("hard.txt", "{a list}"), ("hard.txt", "{a list}")), traced=SUDOKU
    ),
    OWN_MAZES: Run(PUZZLES, (("mazes", "{mazes}"),), traced="python -m bench.maze"),
    AS_STORED: Run(PUZZLES, (("mazes", "{mazes}"),), traced="python -m bench.maze"),
    f'{SUDOKU} --solve "1... ..2. .3.. ...4" --weights runs/sudoku/<folder>/weights/0-best.pt': Run(
        fill=(("runs/sudoku/<folder>", "{a run of Sudoku}"),)
    ),
    f"{SUDOKU} --solve <puzzle> --weights <file>": Run(fill=SOLVED),
    LONGER: Run(fill=SOLVED),
    "python -m bench.maze --solve maze.txt --weights runs/maze/<folder>/weights/0-best.pt": Run(
        fill=(("maze.txt", "{a maze}"), ("runs/maze/<folder>", "{a run of mazes}"))
    ),
    RESUMED: Run(fill=(("<folder>", "{a run of Sudoku}"),)),
    HELP: Run(),
    "torchrun --nproc_per_node 2 -m bench.sudoku": Run(PUZZLES, slow=True, traced=SUDOKU),
    "torchrun --nproc_per_node 2 -m bench.sudoku …": Run(PUZZLES, ((" …", ""),), slow=True, traced=SUDOKU),  # the same
    "python -m bench.maze": Run(PUZZLES),
    "python -m bench.maze --kind carved": Run(PUZZLES),
    f"{ARC} --training_folder … --evaluation_folder …": Run(TASKS, ELLIPSES),
    f"{ARC} --training_folder ARC-AGI/data/training --evaluation_folder ARC-AGI/data/evaluation": Run(TASKS, FOLDERS),
    f"{ARC} --training_folder ARC-AGI/data/training --evaluation_folder ARC-AGI/data/evaluation --device cuda": Run(
        TASKS, (*FOLDERS, ("--device cuda", "--device cpu"))
    ),
    COMPETITION: Run(TASKS, (("…", "{training tasks}"), ("…/arc-agi_test_challenges.json", "{a competition}"))),
    f"{ARC} --config configs/arc/laptop.yaml --training_folder …": Run(
        TASKS, (("…", "{training tasks} --evaluation_folder {evaluation tasks}"),)
    ),
    "python -m bench.gradients": Run(COMPARED, slow=True),
    "python -m bench.gradients --run runs/sudoku/<folder>": Run(
        COMPARED, (("runs/sudoku/<folder>", "{a run of Sudoku}"),), slow=True, traced="python -m bench.gradients"
    ),
    "python -m bench.hrm_speed": Run(f"{FASTEST} --steps 2 --splits [8,4,4]", slow=True),
    "python -m bench.hrm_speed --run runs/sudoku/<folder>": Run(
        FASTEST, (("runs/sudoku/<folder>", "{a run of Sudoku}"),), slow=True, traced="python -m bench.hrm_speed"
    ),
    "python -m bench.depth_width": Run(
        "--seeds 1 --training.steps 2 --training.batch 4 --puzzles [16,4,4] --depths [1,2] --model.d 16 --evaluate 1",
        slow=True,
    ),
    DYNAMICS: Run(LOOKED_AT, slow=True),
    f"{DYNAMICS} --run runs/sudoku/<folder>": Run(
        LOOKED_AT, (("runs/sudoku/<folder>", "{a run of Sudoku}"),), slow=True, traced=DYNAMICS
    ),
    f"{DYNAMICS} --run <a maze run>": Run(
        LOOKED_AT, (("<a maze run>", "{a run of mazes}"),), slow=True, traced=DYNAMICS
    ),
    f"{DYNAMICS} --run <the 6 × 6 run of neurons>": Run(
        LOOKED_AT,
        (("<the 6 × 6 run of neurons>", "{a run of neurons}"),),
        slow=True,
        traced=DYNAMICS,
    ),
    f"{DYNAMICS} --run <the 6 × 6 run, seed 0>": Run(
        LOOKED_AT, (("<the 6 × 6 run, seed 0>", "{a run of 6 × 6}"),), slow=True, traced=DYNAMICS
    ),
}

# Switches that a document names without the command: which of the commands above has them
SWITCHES = {
    "--grid": GRID,
    "--on ray": ON_RAY,
    "--download 0.02": "python -m bench.gsc --data speech_commands --download 0.02",
    "--listen": "python -m bench.gsc --listen recording.wav --weights runs/gsc/<folder>/network.pt",
    "--task stream": "python -m bench.compare --task stream",
    "--config gru": f"{MNIST1D} --config gru",
    "--beta2 0.99 --halving 4000 --duration 32000": ANNEALED,
    "--noise 0.1": ANNEALED,
    "--propagation instant": INSTANT,
    "--config configs/mackey_glass/paper.yaml": PAPER,
    "--config configs/mackey_glass/rk4.yaml": RK4,
    "--target value --stretches 1 --noise 0 --integrator rk4": WORDS,
    "--file mg_17.npy": FILE,
    "--neurobench true": FILE,
    "--config configs/sudoku/6x6.yaml": SIX,
    "--smoke true": SMOKE,
    "--help": HELP,
    "--resume <folder>": RESUMED,
    "--segments": LONGER,
    "--verify false": UNVERIFIED,
    "--puzzles": OWN_MAZES,
    "--augmentation false": AS_STORED,
    "--evaluation_folder …/arc-agi_test_challenges.json": COMPETITION,
}
