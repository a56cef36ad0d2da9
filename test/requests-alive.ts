// Loaded into a gateway (node --import) by `answered-requests-are-let-go`: says on SIGUSR2 which of the requests that
// node:http has read, counted from 0, are still in memory.
import { subscribe } from 'node:diagnostics_channel';

const requests: WeakRef<object>[] = [];
subscribe('http.server.request.start', (message) => {
  requests.push(new WeakRef((message as { request: object }).request));
});
process.on('SIGUSR2', async () => {
  await gc?.({ type: 'major', execution: 'async' });
  const alive = requests.flatMap((request, nth) => (request.deref() === undefined ? [] : [nth]));
  console.error(`${requests.length} requests, in memory: [${alive}]`);
});
