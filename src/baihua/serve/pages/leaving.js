// The page's last moments.

/** Call `save` whenever the page may be gone soon, and `leave` when it goes. */
export function onLeaving({ save, leave }) {
  // Phones end pages without a word; being hidden is the last that is told for certain.
  document.addEventListener("visibilitychange", () => document.hidden && save());
  addEventListener("pagehide", () => {
    save();
    leave();
  });
}
