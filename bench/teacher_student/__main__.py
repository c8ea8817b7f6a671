"""Teacher and student (§2.5, §2.6, §5.6.3, §5.6.4): Figs. 5, 14 and 15 (`chain`), and Fig. 6 (`small`).

python -m bench.teacher_student chain     GLE, instantaneous BP and BPTT on a chain of two neurons
python -m bench.teacher_student small     GLE and the adjoint method on a network of five
"""

from bench.kit.benchmark import main
from bench.teacher_student import chain, small

if __name__ == "__main__":
    main({"chain": chain.benchmark, "small": small.benchmark})
