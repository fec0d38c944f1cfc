// The token is tried at once, and kept for this tab only if the server takes it.

import { forgetToken, keepToken, request } from "./api.js";
import { $, setText } from "./dom.js";
import "./shell.js";

// Only a path of this server: an address of another one would send the viewer there.
function next() {
  const wanted = new URLSearchParams(location.search).get("next") ?? "/";
  const address = new URL(wanted, location.origin);
  return address.origin === location.origin && wanted.startsWith("/") ? address.pathname + address.search : "/";
}

$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  keepToken($("token").value.trim());
  try {
    await request("symbols", { stay: true });
    location.replace(next());
  } catch (error) {
    forgetToken();
    setText($("login-problem"), error.status === 401 ? "The server does not know this token." : error.message);
    $("token").setAttribute("aria-invalid", "true");
    $("token").select();
  }
});
$("token").focus();
