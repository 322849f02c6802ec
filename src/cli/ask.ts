// Questions. Each has a flag; without a terminal a missing answer is an error that names it, never a hang.
import type Inquirer from 'inquirer'
import { MeshError } from '../errors.ts'
import type { Terminal } from './terminal.ts'

interface Question {
  /** The flag that answers it: `--mesh`. */
  readonly flag: string
  readonly message: string
}

export async function askText(
  terminal: Terminal,
  question: Question & { readonly initial?: string; readonly check?: (text: string) => string | null },
): Promise<string> {
  const inquirer = await open(terminal, question)
  const answer: { value: string } = await prompt(terminal, () =>
    inquirer.prompt([
      {
        type: 'input',
        name: 'value',
        message: question.message,
        ...(question.initial === undefined ? {} : { default: question.initial }),
        validate: (text: string) => question.check?.(text.trim()) ?? true,
      },
    ]),
  )
  return answer.value.trim()
}

export async function askSecret(
  terminal: Terminal,
  question: Question & { readonly check?: (text: string) => string | null },
): Promise<string> {
  const inquirer = await open(terminal, question)
  const answer: { value: string } = await prompt(terminal, () =>
    inquirer.prompt([
      {
        type: 'password',
        name: 'value',
        message: question.message,
        mask: '*',
        validate: (text: string) => question.check?.(text) ?? true,
      },
    ]),
  )
  return answer.value
}

export async function askChoice<T extends string>(
  terminal: Terminal,
  question: Question & { readonly choices: readonly { readonly value: T; readonly name: string }[] },
): Promise<T> {
  const inquirer = await open(terminal, question)
  const answer: { value: string } = await prompt(terminal, () =>
    inquirer.prompt([
      {
        type: 'select',
        name: 'value',
        message: question.message,
        choices: question.choices.map((one) => ({ ...one })),
      },
    ]),
  )
  const chosen = question.choices.find((choice) => choice.value === answer.value)
  if (chosen === undefined) throw new MeshError('MSH0102', 'nothing was chosen')
  return chosen.value
}

/** Yes or no; `--yes` answers it. The safe answer is the default. */
export async function confirm(terminal: Terminal, yes: boolean, message: string): Promise<boolean> {
  if (yes) return true
  const inquirer = await open(terminal, { flag: '--yes', message })
  const answer: { value: boolean } = await prompt(terminal, () =>
    inquirer.prompt([{ type: 'confirm', name: 'value', message, default: false }]),
  )
  return answer.value
}

async function open(terminal: Terminal, question: Question): Promise<typeof Inquirer> {
  if (!terminal.interactive) {
    throw new MeshError(
      'MSH0101',
      `${question.flag} is needed: there is no terminal to ask "${question.message}"`,
      {
        hint: `add ${question.flag}`,
      },
    )
  }
  return (await import('inquirer')).default
}

/** Ctrl-C in a question. */
async function prompt<T>(terminal: Terminal, run: () => Promise<T>): Promise<T> {
  try {
    return await terminal.aside(run)
  } catch (error) {
    if (error instanceof Error && error.name === 'ExitPromptError') {
      throw new MeshError('MSH0102', 'aborted, no changes made')
    }
    throw error
  }
}
