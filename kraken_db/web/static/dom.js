// Elements made by functions: text is always text, so nothing that is stored can become markup.

export const $ = (id) => document.getElementById(id);

export function h(name, options = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.className = value;
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// A change only where there is one: a screen reader, a selection and the layout stay in peace.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function press(group, chosen) {
  for (const button of group.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button === chosen));
  }
}

export function say(text) {
  setText($("said"), text);
}

export function debounce(wait, task) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(task, wait, ...values);
  };
}

// Whether the keys that were typed are meant for a field.
export function isTyping(event) {
  return event.ctrlKey || event.metaKey || event.altKey || Boolean(event.target.closest?.("input, select, textarea, dialog"));
}
