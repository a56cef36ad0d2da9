import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** What takes longest, longest first: begun last, it would go on alone when all else is done. */
const LONGEST = [
  'test/killed-at-every-write',
  'test/operator-commands',
  'test/operator-uses-the-console',
  'test/convergence',
  'test/buyer-manages-the-plan',
  'test/buyer-walks-from-price-to-key',
  'test/killed-while-provisioning',
  'test/client-command-line',
  'test/several-workers',
  'test/two-processes-provision-one-session',
  'test/routes-change-while-requests-flow',
  'gateway/situations/pipeline',
];

/** Begins with the files known to take longest, also where nothing is known of earlier runs; else as Vitest does. */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const rank = ({ moduleId }: TestSpecification) => {
      const index = LONGEST.findIndex((name) => moduleId.endsWith(`/${name}.test.ts`));
      return index < 0 ? LONGEST.length : index;
    };
    // Files of one project stay together: they share processes.
    const projects = [...new Set(sorted.map(({ project }) => project))];
    return projects.flatMap((project) =>
      sorted.filter((file) => file.project === project).sort((a, b) => rank(a) - rank(b)),
    );
  }
}
