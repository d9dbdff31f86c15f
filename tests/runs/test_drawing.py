"""What a run draws, and when."""

import threading
import time

from unet_jax.run import Validation


class Slow:
    """Draws nothing; the first figure waits."""

    def __init__(self):
        self.may_go_on, self.drawn = threading.Event(), []

    def draw(self, step, *, is_last):
        self.drawn.append((step, is_last))
        self.may_go_on.wait(10)


def test_figures_of_all_evaluations_are_drawn_for_the_last_that_waits():
    validation = Validation.__new__(Validation)
    validation._gallery = slow = Slow()
    with validation:
        for step in (10, 20, 30):
            validation.draw(step)
            while not slow.drawn:  # so that the first is drawn before the second comes
                time.sleep(0.01)
        slow.may_go_on.set()
    assert slow.drawn == [(10, True), (20, False), (30, True)]
