// Draws one sample of a plan file: sample PLAN.fsp [NAME=VALUE]...
package org.fewstep

import kotlin.system.exitProcess

fun main(arguments: Array<String>) {
    try {
        val session = Plan(arguments[0]).use { Session(it, threads = 1, seed = 42) }
        session.use {
            for (condition in arguments.drop(1)) {
                val (name, value) = condition.split('=')
                it.setCondition(name, value.toDouble())
            }
            println(it.sample().joinToString("\n"))
        }
    } catch (error: FewstepException) {
        System.err.println("error ${error.status}: ${error.message}")
        exitProcess(1)
    }
}
