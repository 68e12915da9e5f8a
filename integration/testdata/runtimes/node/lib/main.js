const ms = require('ms')
const os = require('os')

let development = 'absent'
try {
  require.resolve('is-number')
  development = 'present'
} catch {}
console.log('node says', ms(60000, { long: true }), 'BUILT', development, process.env.NODE_ENV, os.userInfo().uid, ...process.argv.slice(2))
