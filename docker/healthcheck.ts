// Asks the service in this container for its health; the exit code is the answer.
import { isIP } from 'node:net';

const { SERVICE, HOST = '', BILLING_PORT, GATEWAY_PORT, LICENSING_PORT } = process.env;
const ports: Record<string, string | number> = {
  billing: BILLING_PORT || 8011,
  licensing: LICENSING_PORT || 8015,
};
const port = ports[SERVICE ?? ''] ?? (GATEWAY_PORT || 8010);
// A service on every interface is asked on the loopback one; one on a single address only answers there.
const host = ['', '0.0.0.0', '::'].includes(HOST) ? '127.0.0.1' : isIP(HOST) === 6 ? `[${HOST}]` : HOST;
try {
  const response = await fetch(`http://${host}:${port}/health`, { signal: AbortSignal.timeout(3000) });
  process.exit(response.ok ? 0 : 1);
} catch {
  process.exit(1);
}
