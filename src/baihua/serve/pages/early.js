// Before the first paint: the reader's own language and colours, so that nothing flashes. No module: those come later.
(() => {
  const read = (name) => {
    try {
      return localStorage.getItem(name);
    } catch {
      return null; // the reader keeps pages from storing anything
    }
  };
  const root = document.documentElement;
  root.lang = read("baihua.language") ?? (navigator.language.startsWith("zh") ? "zh-CN" : "en");
  const scheme = read("baihua.scheme");
  if (scheme === "light" || scheme === "dark") root.dataset.scheme = scheme;
})();
