// Asks the service in this container for its health; the exit code is the answer.
const port =
  process.env.SERVICE === 'billing'
    ? (process.env.BILLING_PORT ?? '8011')
    : (process.env.GATEWAY_PORT ?? '8010');
try {
  const response = await fetch(`http://127.0.0.1:${port}/health`, { signal: AbortSignal.timeout(2500) });
  process.exit(response.ok ? 0 : 1);
} catch {
  process.exit(1);
}
