// Requests to the API: the token, errors as the server words them, and the way to the login.

const TOKEN = "token";

export class ApiError extends Error {
  constructor(status, message, hint) {
    super(message);
    this.status = status;
    this.hint = hint;
  }
}

export function token() {
  try {
    return sessionStorage.getItem(TOKEN) ?? "";
  } catch {
    return "";
  }
}

export function keepToken(value) {
  sessionStorage.setItem(TOKEN, value);
}

export function forgetToken() {
  sessionStorage.removeItem(TOKEN);
}

export function headers(more = {}) {
  const value = token();
  return value ? { ...more, Authorization: `Bearer ${value}` } : more;
}

export function goToLogin() {
  const here = location.pathname + location.search;
  location.assign(`/login?next=${encodeURIComponent(here)}`);
}

// `signal`: an AbortSignal. Raises ApiError; one without a status is a server that cannot be reached.
export async function request(path, { method = "GET", body, signal, query, stay = false } = {}) {
  const address = `/api/v1/${path}${query ? `?${new URLSearchParams(query)}` : ""}`;
  const options = { method, signal, headers: headers(), credentials: "omit", cache: "no-cache" };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server cannot be reached.", "Is kraken-db serve running? This page tries again.");
  }
  if (answer.status === 401 && !stay) goToLogin();
  if (!answer.ok) throw await refusal(answer);
  return answer.status === 204 ? null : answer.json();
}

export async function refusal(answer) {
  const { error = {} } = await answer.json().catch(() => ({}));
  return new ApiError(answer.status, error.message ?? `The server answered ${answer.status}.`, error.hint);
}
