// Sets language and colours before the first paint, so that nothing flashes. Not a module: those run later.
(() => {
  const read = (name) => {
    try {
      return localStorage.getItem(name);
    } catch {
      return null; // the reader blocks storage
    }
  };
  const root = document.documentElement;
  root.lang = read("baihua.language") ?? (navigator.language.startsWith("zh") ? "zh-CN" : "en");
  const scheme = read("baihua.scheme");
  if (scheme === "light" || scheme === "dark") root.dataset.scheme = scheme;
})();
