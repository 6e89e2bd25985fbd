// Enlarges a gallery picture in place; the arrow keys go to the next result, and to the next image.
// Without it a picture's link opens the picture itself.
"use strict";
const dialog = document.querySelector("dialog");
const [enlarged, caption] = dialog.children;
let link = null;

function show(next) {
  if (!next) return;
  link = next;
  const thumbnail = link.querySelector("img");
  enlarged.src = link.href;
  enlarged.alt = thumbnail.alt;
  enlarged.style.setProperty("--ratio", `${thumbnail.getAttribute("width")} / ${thumbnail.getAttribute("height")}`);
  caption.textContent = link.dataset.caption;
  if (!dialog.open) dialog.showModal();
}

// The picture `columns` to the right and `rows` below, among those of the same gallery.
function neighbour(columns, rows) {
  const figure = link.closest("figure");
  let row = link.closest(".image");
  let column = [...figure.parentElement.children].indexOf(figure) + columns;
  if (rows > 0) row = row.nextElementSibling;
  if (rows < 0) row = row.previousElementSibling;
  if (!row || !row.matches(".image")) return null;
  const target = row.querySelectorAll("figure")[column];
  return target ? target.querySelector("a") : null;
}

document.addEventListener("click", (event) => {
  const picture = event.target.closest(".strip a");
  if (picture && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    show(picture);
  } else if (event.target.closest("[data-step]")) {
    show(neighbour(Number(event.target.dataset.step), 0));
  } else if (event.target === dialog || event.target.closest("[data-close]")) {
    dialog.close();
  }
});

dialog.addEventListener("keydown", (event) => {
  const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (move) {
    event.preventDefault();
    show(neighbour(...move));
  }
});

dialog.addEventListener("close", () => link.focus());
