// marks the page one is on
for (const a of document.querySelectorAll("nav a")) {
  if (a.href === location.href) a.setAttribute("aria-current", "page");
}
