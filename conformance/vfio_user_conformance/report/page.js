// A filter over the rows; a page for each case, by its name after the #; bytes and fields that light up together.
const root = document.documentElement, filter = document.getElementById("filter");
const rows = [...document.querySelectorAll("#cases tbody tr")], count = document.getElementById("count");
const buttons = [...document.querySelectorAll(".bar button")];
let wanted = "";

function text(row) {
  row.words ??= (row.textContent + (document.getElementById(row.dataset.case)?.querySelector("dl").textContent ?? "")).toLowerCase();
  return row.words;
}

function show() {
  const words = filter.value.toLowerCase().split(/\s+/);
  for (const row of rows)
    row.hidden = (wanted && !row.dataset.outcome.split(" ").includes(wanted)) || !words.every((word) => text(row).includes(word));
  for (const button of buttons) button.setAttribute("aria-pressed", String(button.value === wanted));
  count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} shown`;
}

function go() {
  const name = decodeURIComponent(location.hash.slice(1));
  const shown = rows.filter((row) => !row.hidden || row.dataset.case === name);
  const place = shown.findIndex((row) => row.dataset.case === name);
  const article = place < 0 ? null : document.getElementById(name);
  document.querySelector("article.current")?.classList.remove("current");
  root.classList.toggle("open", article !== null);
  if (article === null) return;
  article.classList.add("current");
  for (const [rel, step] of [["prev", -1], ["next", 1]]) {
    const link = article.querySelector(`a[rel=${rel}]`), other = shown[place + step];
    link.hidden = other === undefined;
    if (other !== undefined) link.href = `#${other.dataset.case}`;
  }
  scrollTo(0, 0);
}

root.classList.add("js");
filter.addEventListener("input", show);
for (const button of buttons) button.addEventListener("click", () => { wanted = button.value; show(); });
addEventListener("hashchange", go);
addEventListener("mouseover", (event) => {
  for (const lit of document.querySelectorAll(".lit")) lit.classList.remove("lit");
  const field = event.target.closest("[data-f]");
  if (field === null) return;
  for (const part of field.closest(".message").querySelectorAll(`[data-f="${field.dataset.f}"]`)) part.classList.add("lit");
});
show();
go();
