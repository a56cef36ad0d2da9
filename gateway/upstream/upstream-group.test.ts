import fc from 'fast-check';
import { expect, it } from 'vitest';
import { routeToServers } from '../../test/servers.ts';
import { Overloaded, type Target, UpstreamGroup, type WaitingRequest } from './upstream-group.ts';

const URLS = ['http://a.example', 'http://b.example', 'http://c.example'];

it('whatever comes and goes: no server has more than it may, the least busy one is next, those that wait go in turn', () => {
  const step = fc.record({
    what: fc.constantFrom('ask', 'ask', 'ask', 'end', 'end', 'leave', 'sick', 'well'),
    which: fc.nat(100),
  });
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 150 }),
      fc.integer({ min: 1, max: 3 }),
      (steps, maxConnections) => {
        const upstream = { maxConnections, circuit: { failures: 1_000_000, openMs: 1000 } };
        const group = new UpstreamGroup(routeToServers(URLS, upstream).upstream);
        const { targets } = group;
        const underWay: Target[] = [];
        const waiting: WaitingRequest[] = [];
        const able = () => targets.filter(({ healthy, hasRoom }) => healthy && hasRoom);

        const wait = () => {
          const request: WaitingRequest = {
            onRoom: (target) => {
              expect(waiting.shift()).toBe(request);
              underWay.push(target);
            },
            onNoRoom: () => {
              throw new Error('Nobody has waited for too long');
            },
          };
          const refused = group.wait(request);
          if (refused === null) waiting.push(request);
          else if (refused instanceof Overloaded) expect(waiting).toHaveLength(maxConnections * URLS.length);
          else expect(targets.every(({ healthy }) => !healthy)).toBe(true);
        };
        for (const { what, which } of steps) {
          if (what === 'ask') {
            const alone = waiting.length === 0;
            const before = able();
            const least = Math.min(...before.map(({ pending }) => pending));
            const target = group.pick();
            if (target === null) {
              expect(able()).toHaveLength(0);
              wait();
            } else {
              if (alone) expect(target.pending - 1).toBe(least);
              underWay.push(target);
            }
          } else if (what === 'end' && underWay.length > 0) {
            const [target] = underWay.splice(which % underWay.length, 1);
            group.release(target as Target);
          } else if (what === 'leave' && waiting.length > 0) {
            const [request] = waiting.splice(which % waiting.length, 1);
            group.leave(request as WaitingRequest);
          } else if (what === 'sick' || what === 'well') {
            (targets[which % targets.length] as Target).healthy = what === 'well';
          }
          for (const target of targets) {
            expect(target.pending).toBe(underWay.filter((each) => each === target).length);
            expect(target.pending).toBeLessThanOrEqual(maxConnections);
          }
          expect(group.waiting).toBe(waiting.length);
        }
        // In the end all are well again and nobody is left behind.
        for (const target of targets) target.healthy = true;
        // Who comes next finds them so; health checks, which would tell the group, there are none.
        const next = group.pick();
        if (next !== null) underWay.push(next);
        while (underWay.length > 0) group.release(underWay.pop() as Target);
        expect(waiting).toHaveLength(0);
        expect(targets.every(({ pending }) => pending === 0)).toBe(true);
        void group.destroy();
      },
    ),
  );
});

it('of requests that find no room, those that wait count for the retry budget, once', () => {
  const upstream = { maxConnections: 1, retryBudget: 0.5 };
  const group = new UpstreamGroup(routeToServers(URLS.slice(0, 1), upstream).upstream);
  const retries = () => {
    let taken = 0;
    while (group.mayRetry()) taken++;
    return taken;
  };
  expect(group.pick()).not.toBeNull();
  const always = retries();
  for (let n = 0; n < 100; n++) expect(group.pick()).toBeNull();
  expect(retries()).toBe(0);
  const request = { onRoom: () => {}, onNoRoom: () => {} };
  expect(group.wait(request)).toBeNull();
  expect([always, retries()]).toEqual([10, 1]);
  group.leave(request);
});
