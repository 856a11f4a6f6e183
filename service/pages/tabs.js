// The tabs: one view at a time, named by the address's hash so that a link can open it.

const tabs = [...document.querySelectorAll("[role=tab]")];
const viewOf = (tab) => document.getElementById(tab.getAttribute("aria-controls"));

function show(chosen) {
  for (const tab of tabs) {
    tab.setAttribute("aria-selected", String(tab === chosen));
    tab.tabIndex = tab === chosen ? 0 : -1;
    viewOf(tab).hidden = tab !== chosen;
  }
  document.querySelector(".skip").href = `#${viewOf(chosen).querySelector(".result").id}`;
}

/** Shows the tab of this hash and writes it into the address, if it is not shown already. */
export function openTab(hash) {
  const tab = tabs.find((one) => one.hash === hash);
  if (tab.getAttribute("aria-selected") === "true") return;
  show(tab);
  location.hash = hash;
  scrollTo(0, 0);
}

/** The hash may be a tab's, or that of a place in its view: the skip link's is. */
function follow() {
  const place = document.getElementById(location.hash.slice(1));
  show(tabs.find((tab) => tab.hash === location.hash)
    ?? tabs.find((tab) => viewOf(tab).contains(place)) ?? tabs[0]);
}

const STEPS = { ArrowLeft: -1, ArrowRight: 1 };
for (const [i, tab] of tabs.entries()) {
  tab.addEventListener("click", (event) => {
    event.preventDefault();
    openTab(tab.hash);
  });
  tab.addEventListener("keydown", (event) => {
    const ends = { Home: 0, End: tabs.length - 1, " ": i };
    const to = ends[event.key] ?? i + STEPS[event.key];
    if (Number.isNaN(to)) return;
    event.preventDefault();
    const next = tabs[(to + tabs.length) % tabs.length];
    openTab(next.hash);
    next.focus();
  });
}
addEventListener("hashchange", follow);
follow();
