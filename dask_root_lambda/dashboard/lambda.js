// The steering panel. What it shows comes with the page's figures; what it does are POSTs to a route of ours, with
// the secret in a header. The link to steer carries the secret in its fragment, which browsers send to nobody.
const rootLambda = (() => {
  const KEPT = "dask-root-lambda-secret";
  const byId = (id) => document.getElementById(id);

  function takeSecret() {
    const given = new URLSearchParams(location.hash.slice(1)).get("secret");
    if (given) {
      // Kept for this tab, and out of the address: it is not to be copied, or to be seen on a screen.
      sessionStorage.setItem(KEPT, given);
      history.replaceState(null, "", location.pathname + location.search);
    }
    return sessionStorage.getItem(KEPT) || "";
  }

  let secret = takeSecret();
  let last = null;
  window.addEventListener("hashchange", () => {
    secret = takeSecret();
    if (last) show(last);
  });

  function show(state) {
    last = state;
    byId("may").hidden = Boolean(secret);
    showExecutions(state);
    showNumber("concurrency", state.concurrency);
    byId("concurrency").max = state.most_concurrency;
    showNumber("max-usd", state.max_usd);
    showRuns(state.running);
  }

  function showExecutions(state) {
    const box = byId("executions");
    for (const [name, reason] of Object.entries(state.executions)) {
      let label = byId("execution-" + name);
      if (!label) {
        label = document.createElement("label");
        label.id = "execution-" + name;
        const radio = document.createElement("input");
        radio.type = "radio";
        radio.name = "execution";
        radio.value = name;
        radio.addEventListener("change", () => steer({ execution: name }));
        label.append(radio, " " + name);
        box.append(label);
      }
      const radio = label.firstChild;
      radio.disabled = !secret || Boolean(reason);
      radio.checked = name === state.execution;
      label.title = reason;
      label.style.color = reason ? "#999" : "";
    }
  }

  function showNumber(id, value) {
    const input = byId(id);
    input.disabled = !secret;
    if (document.activeElement !== input) input.value = value === null ? "" : value;
  }

  function showRuns(runs) {
    const box = byId("running");
    const ids = runs.map((each) => each.run);
    for (const button of [...box.children]) if (!ids.includes(button.dataset.run)) button.remove();
    for (const each of runs) {
      if ([...box.children].some((button) => button.dataset.run === each.run)) continue;
      const button = document.createElement("button");
      button.dataset.run = each.run;
      button.textContent = "Stop " + (each.results.join(", ") || each.run.slice(0, 8)).slice(0, 40);
      button.addEventListener("click", () => steer({ stop: each.run }));
      box.append(button);
    }
    for (const button of box.children) button.disabled = !secret;
  }

  async function steer(action) {
    byId("said").textContent = "…";
    try {
      const answer = await fetch("lambda/steer", {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Dask-Root-Lambda-Secret": secret },
        body: JSON.stringify(action),
      });
      const said = await answer.json();
      if (answer.status === 403) {
        sessionStorage.removeItem(KEPT);
        secret = "";
      }
      byId("said").textContent = said.error || "";
      // What was not done is not to be seen as done.
      if (said.error) show(last);
    } catch (error) {
      byId("said").textContent = "The cluster does not answer: " + error.message;
    }
  }

  byId("concurrency").addEventListener("change", (event) => steer({ concurrency: Number(event.target.value) }));
  byId("max-usd").addEventListener("change", (event) =>
    steer({ max_usd: event.target.value === "" ? null : Number(event.target.value) }),
  );
  return { show };
})();
