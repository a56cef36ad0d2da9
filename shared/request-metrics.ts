import type { Request, RequestHandler } from 'express';
import { Counter, Histogram, type Registry } from 'prom-client';

/** Seconds. */
export const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/**
 * Counts a room's requests and how long they took, by route and class of status, and its refusals by problem code. Routes are those
 * of the program, so that no address that a client made up is a label.
 */
export function requestMetrics(registry: Registry, room: 'billing' | 'licensing'): RequestHandler {
  const seconds = new Histogram({
    name: `tollgate_${room}_request_seconds`,
    help: 'Time from a request to the end of its answer, by route and class of the status.',
    labelNames: ['route', 'status'],
    buckets: SECONDS,
    registers: [registry],
  });
  const refusals = new Counter({
    name: `tollgate_${room}_refusals_total`,
    help: 'Requests answered with a problem, by its code.',
    labelNames: ['code'],
    registers: [registry],
  });
  return (request, response, next) => {
    const begun = performance.now();
    response.once('close', () => {
      const status = response.headersSent ? `${Math.trunc(response.statusCode / 100)}xx` : 'none';
      seconds.observe({ route: routeOf(request), status }, (performance.now() - begun) / 1000);
      const { code } = response.locals as { code?: string };
      if (code !== undefined) refusals.inc({ code });
    });
    next();
  };
}

function routeOf(request: Request): string {
  const path: unknown = request.route?.path;
  if (path !== undefined) return String(Array.isArray(path) ? path[0] : path);
  return request.originalUrl.startsWith('/assets/') ? '/assets' : 'none';
}
