// Drains jobs that do nothing with Graphile Worker. Says `ready`, then how many ended since it last
// spoke, a line each; on `stop` it stops cleanly and says `done N left M`.
const [, modules, connectionString, backlog, atOnce, ahead, gatherMs] = process.argv;
const { run, runMigrations, Logger } = require(`${modules}/graphile-worker`);
const { Pool } = require(`${modules}/pg`);

const say = (line) => process.stdout.write(`${line}\n`);

async function main() {
  const pool = new Pool({ connectionString, max: 12 }); // as many as our own store opens
  pool.on("error", () => {});
  const logger = new Logger(() => () => {});
  await runMigrations({ pgPool: pool, logger });
  const spec = `json_populate_record(null::graphile_worker.job_spec, '{"identifier":"nothing"}')`;
  await pool.query(
    `select count(*) from graphile_worker.add_jobs(
       (select array_agg(${spec}) from generate_series(1, $1::int)))`,
    [backlog],
  );
  await pool.query("vacuum analyze");
  const worker = { concurrentJobs: Number(atOnce) };
  if (Number(ahead) > 0) {
    worker.localQueue = { size: Number(ahead) };
    worker.completeJobBatchDelay = Number(gatherMs);
  }
  const runner = await run({
    preset: { worker }, pgPool: pool, logger, noHandleSignals: true,
    taskList: { nothing: () => {} },
  });
  let [done, told] = [0, 0];
  runner.events.on("job:complete", () => { done += 1; });
  say("ready");
  const telling = setInterval(() => {
    if (done > told) say(String(done - told));
    told = done;
  }, 5);
  process.stdin.once("data", async () => {
    await runner.stop();
    clearInterval(telling);
    // It stops before the last ends are written; those are waited for.
    const after = new Pool({ connectionString });
    let left = -1;
    for (let looks = 0; looks < 100 && done + left !== Number(backlog); looks += 1) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      const { rows } = await after.query(
        "select count(*)::int as left from graphile_worker._private_jobs",
      );
      left = rows[0].left;
    }
    say(`done ${done} left ${left}`);
    process.exit(0);
  });
}

main().catch((error) => { say(`failed: ${error}`); process.exit(1); });
