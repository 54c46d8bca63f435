// Elements of the page. Text from the server or the user becomes text, never markup.

/** Returns the element with this id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Returns a new element with a class and children: elements, or strings as text. */
export function element(tag, className, ...children) {
  const created = document.createElement(tag);
  created.className = className;
  created.append(...children);
  return created;
}

/** Shows `text` in an element that is hidden without text. */
export function setText(target, text) {
  target.textContent = text;
  target.hidden = text === "";
}

/** Returns a bar from 0 to `max`. The text beside it has the value. */
export function bar(value, max) {
  const meter = document.createElement("meter");
  meter.max = max;
  meter.value = value;
  meter.setAttribute("aria-hidden", "true");
  return meter;
}

/** Returns a share from 0 to 1 in percent. */
export function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}
