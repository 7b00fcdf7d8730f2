// The life of a mail through the generated client: `node walk.js <address> <token>`. It ends at the first surprise.
import assert from "node:assert/strict";

import * as api from "./client";
import { client } from "./client/client.gen";

const [, , baseUrl, token] = process.argv;
client.setConfig({ baseUrl, auth: token, throwOnError: true });

async function walk(): Promise<void> {
  const body: api.ReservationIn = {
    recipients: ["Ann <ann@example.com>"],
    subject: "Your order {{ number }}",
    body_text: "It is on its way.",
    context: { number: 4711 },
    tag: "typescript",
  };
  const { data: reserved } = await api.reserveApiReservationsPost({ body, throwOnError: true });
  assert(reserved && "id" in reserved && reserved.new);
  const path = { reservation_id: reserved.id };

  const { data: page } = await api.listReservationsApiReservationsGet({ query: { tag: "typescript" }, throwOnError: true });
  assert.deepEqual(page.items.map((item) => item.id), [reserved.id]);
  assert.equal(page.next, null);
  const { data: explained } = await api.explainApiReservationsReservationIdExplainGet({ path, throwOnError: true });
  assert.equal(explained.status, "pending");
  const { data: shown } = await api.previewStoredApiReservationsReservationIdPreviewGet({ path, throwOnError: true });
  assert.equal(shown.subject, "Your order 4711");

  const { data: paused } = await api.pauseApiPausePost({ body: { all: false }, throwOnError: true });
  assert.equal(paused.pause, "ticks");
  const { data: running } = await api.isRunningApiIsRunningGet({ throwOnError: true });
  assert.deepEqual([running.running, running.pause, running.paused], [false, "ticks", "ticks"]);
  const { data: standing } = await api.statusApiStatusGet({ throwOnError: true });
  assert.deepEqual([standing.pause, standing.due], ["ticks", 1]);
  const { data: resumed } = await api.resumeApiResumePost({ throwOnError: true });
  assert.deepEqual([resumed.pause, resumed.paused], ["none", false]);

  const { data: cancelled } = await api.cancelApiReservationsReservationIdCancelPost({ path, throwOnError: true });
  assert.equal(cancelled.status, "cancelled");
  const refused = await api.resolveApiReservationsReservationIdResolvePost({ path, throwOnError: false });
  assert.equal(refused.response?.status, 409);
  const { data: restored } = await api.restoreApiReservationsReservationIdRestorePost({ path, throwOnError: true });
  assert.equal(restored.status, "pending");

  const { data: report } = await api.runNowApiRunNowPost({ query: { wait: 30 }, throwOnError: true });
  assert(report && "outcome" in report);
  assert.deepEqual([report.outcome, report.sent], ["completed", 1]);
  const { data: sent } = await api.showApiReservationsReservationIdGet({ path, throwOnError: true });
  assert.equal(sent.status, "sent");
  const { data: runs } = await api.listRunsApiRunsGet({ throwOnError: true });
  assert.equal(runs.items[0]?.run_id, report.run_id);
  const { data: errors } = await api.listErrorsApiRunsRunIdErrorsGet({
    path: { run_id: runs.items[0]!.run_id },
    throwOnError: true,
  });
  assert.deepEqual(errors.items, []);

  const filter = { tag: "typescript", status: "sent" };
  const { data: preview } = await api.bulkApiBulkActPost({ path: { act: "delete" }, body: { filter }, throwOnError: true });
  assert(preview && "confirm" in preview);
  const confirmed = { filter, confirm: preview.confirm };
  const { data: done } = await api.bulkApiBulkActPost({ path: { act: "delete" }, body: confirmed, throwOnError: true });
  assert(done && "changed" in done);
  assert.equal(done.changed, 1);
  const { data: actions } = await api.actionsApiActionsGet({ throwOnError: true });
  assert.equal(actions.items[0]?.action, "delete");
}

walk().then(
  () => console.log("walked"),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
