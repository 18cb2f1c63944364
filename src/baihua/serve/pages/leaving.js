// Events that precede the end of the page.

/** Call `save` whenever the page may soon be closed, and `leave` when it is. */
export function onLeaving({ save, leave }) {
  // Phones kill pages without notice; the change to hidden is the last reliable event.
  document.addEventListener("visibilitychange", () => document.hidden && save());
  addEventListener("pagehide", () => {
    save();
    leave();
  });
}
