/** zod's findings as one line for the user. Never shows a value: it may be a secret. */
import type { z } from 'zod';
import { suggestion } from '../support/nearest-name.ts';
import type { ConfigPath } from './config-source.ts';

export interface Finding {
  readonly path: ConfigPath;
  readonly message: string;
  /** The message is about the name at `path`, not about its value. */
  readonly key: boolean;
}

const TYPE_NAMES: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a map of options',
  record: 'a map of names',
};

/** `known` tells the option names at a path. */
export const describeIssue = (issue: z.core.$ZodIssue, known: (path: ConfigPath) => string[]): Finding => {
  const { path } = issue;
  const about = (message: string): Finding => ({ path, message, key: false });
  switch (issue.code) {
    case 'unrecognized_keys': {
      const name = issue.keys[0] ?? '';
      return { path: [...path, name], message: `unknown option \`${name}\`${suggestion(name, known(path))}`, key: true };
    }
    case 'invalid_type':
      if (issue.input === undefined && issue.message.includes('received undefined')) return { path, message: 'is missing', key: false };
      return about(issue.message.startsWith('Invalid input') ? `must be ${TYPE_NAMES[issue.expected] ?? issue.expected}` : issue.message);
    case 'invalid_value':
      return about(`must be ${issue.values.map(String).join(' or ')}`);
    case 'too_small':
      return about(issue.origin === 'string' || issue.origin === 'array' ? 'must not be empty' : `must be at least ${issue.minimum}`);
    case 'too_big':
      return about(`must be at most ${issue.maximum}`);
    case 'invalid_key':
      return { path, message: `must be ${issue.issues[0]?.message ?? 'a name'}`, key: true };
    case 'invalid_union': {
      const [first] = issue.errors.flat();
      return first === undefined ? about('is not understood') : describeIssue({ ...first, path: [...path, ...first.path] }, known);
    }
    default:
      return about(issue.message);
  }
};
