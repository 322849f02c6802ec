import assert from 'node:assert/strict'
import { test } from 'node:test'
import { groupsOf, systemNames } from '../../bench/run.ts'
import { c32, httpScenarios } from '../../bench/scenario/http.ts'

const config = httpScenarios.find(({ name }) => name === 'config')!

test('a scenario beside another shares its rounds', () => {
  assert.deepEqual(
    groupsOf([c32, config]).map(({ parts }) =>
      parts.map(({ scenario, systems }) => [scenario.name, systems]),
    ),
    [
      [
        ['h1-c32', systemNames],
        ['config', ['meshctl']],
      ],
    ],
  )
})

test('alone it brings what it is compared with, without the peers', () => {
  assert.deepEqual(
    groupsOf([config]).map(({ parts }) => parts.map(({ scenario, systems }) => [scenario.name, systems])),
    [
      [
        ['h1-c32', ['direct', 'meshctl']],
        ['config', ['meshctl']],
      ],
    ],
  )
})
