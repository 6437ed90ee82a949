/** The folders' dependency rules (STYLE, "The tree") stand in .oxlintrc.json. This shows that oxlint finds violations of them. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryDirectory } from '../helpers/temporary.ts';

const ROOT = join(import.meta.dirname, '..', '..');

const lint = (file: string, imported: string): string => {
  using directory = temporaryDirectory();
  const path = join(directory.path, file);
  mkdirSync(dirname(path), { recursive: true });
  copyFileSync(join(ROOT, '.oxlintrc.json'), join(directory.path, '.oxlintrc.json'));
  writeFileSync(path, `import { thing } from '${imported}';\n\nexport const used = thing;\n`);
  const { stdout } = spawnSync(process.execPath, [join(ROOT, 'node_modules/oxlint/bin/oxlint')], { cwd: directory.path, encoding: 'utf8' });
  return stdout;
};

describe('dependency rules', () => {
  it.each([
    ['src/support/a.ts', '../change/b.ts'],
    ['src/sqlite/a.ts', '../keeper/b.ts'],
    ['src/keeper/a.ts', '../mirror/b.ts'],
    ['src/diff/a.ts', '../log/b.ts'],
    ['src/log/a.ts', '../diff/b.ts'],
    ['src/pipeline/a.ts', '../capture/b.ts'],
    ['src/pipeline/a.ts', '../../connectors/registry.ts'],
    ['src/pipeline/shaping/a.ts', '../../capture/b.ts'],
    ['src/config/a.ts', '../daemon.ts'],
    ['connectors/some/a.ts', '../../src/log/b.ts'],
    ['connectors/registry.ts', '../src/config/b.ts'],
  ])('%s must not import %s', (file, imported) => {
    expect(lint(file, imported)).toContain(`'${imported}' import is restricted`);
  });

  it.each([
    ['src/sqlite/a.ts', '../support/b.ts'],
    ['src/diff/a.ts', '../sqlite/b.ts'],
    ['src/config/a.ts', '../../connectors/registry.ts'],
    ['src/pipeline/shaping/a.ts', '../../change/b.ts'],
    ['connectors/some/a.ts', '../../src/pipeline/sink.ts'],
    ['src/daemon.ts', './pipeline/runner.ts'],
  ])('%s may import %s', (file, imported) => {
    expect(lint(file, imported)).toContain('Found 0 warnings and 0 errors');
  });
});
