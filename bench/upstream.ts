// The built-in demo API in a process of its own, so that it takes no time from what is measured.
import { startDemoUpstream } from '../gateway/demo-upstream.ts';

const upstream = await startDemoUpstream({ host: '127.0.0.1', port: 0 });
process.stdout.write(`listening ${upstream.url}\n`);
process.on('SIGTERM', () => process.exit(0));
